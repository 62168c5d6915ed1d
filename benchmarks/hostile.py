"""Files that no reader may trust: truncated, of wrong magic, pointing elsewhere, declaring sizes
they do not have, or carrying code. Each maker writes one into a folder and returns its path.

Shared by the benchmark `hostile_files` and the tests; holds no measurement.
"""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch

from channels.opened import COMPACT_GRID

__all__ = ["HOSTILE", "TRAP"]

TRAP = "executed"  # name of the file that hostile code would create beside its own
_ABSURD = (12_500_000, 2, 32, 32)  # float32: 100 GB


def _channels(n: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 8, 8)) + 1j * rng.standard_normal((n, 8, 8))


class _Code:
    """A pickle that would create the trap when it is loaded."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.trap),)


def _cut(name: str, write: Callable[[Path], object], share: float) -> Callable[[Path], Path]:
    """A good file, of which only the first `share` is there."""

    def make(folder: Path) -> Path:
        path = folder / name
        write(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return make


def _mat5(path: Path) -> None:
    scipy.io.savemat(path, {"H": _channels()}, do_compression=True)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["grid"] = COMPACT_GRID
        file["h"] = np.stack((_channels().real, _channels().imag), axis=1)


def _npz(path: Path) -> None:
    with open(path, "wb") as file:  # a handle, lest numpy append .npz
        np.savez_compressed(file, h=_channels())


def _npy(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, _channels())


def _pt(path: Path) -> None:
    torch.save({"h": torch.from_numpy(_channels())}, path)


def _magic(name: str, head: bytes) -> Callable[[Path], Path]:
    """A file that begins like a format and is something else."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(head + b"\x00garbage" * 200)
        return path

    return make


def _external_link(folder: Path) -> Path:
    _hdf5(folder / "secret.h5")
    path = folder / "link.h5"
    with h5py.File(path, "w") as file:
        file["h"] = h5py.ExternalLink(str(folder / "secret.h5"), "/h")
    return path


def _external_storage(folder: Path) -> Path:
    secret = folder / "secret.raw"
    secret.write_bytes(os.urandom(64 * 2 * 8 * 8 * 4))
    path = folder / "storage.h5"
    with h5py.File(path, "w") as file:
        stored = [(str(secret), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("h", (64, 2, 8, 8), "<f4", external=stored)
    return path


def _absurd_hdf5(folder: Path) -> Path:
    path = folder / "absurd.h5"
    with h5py.File(path, "w") as file:
        file.attrs["grid"] = COMPACT_GRID
        file.create_dataset("h", _ABSURD, "<f4", chunks=(64, 2, 32, 32))
    return path


def _absurd_shape_hdf5(folder: Path) -> Path:
    path = folder / "shape.h5"
    with h5py.File(path, "w") as file:
        file.attrs["grid"] = COMPACT_GRID
        file.create_dataset("h", (2**40, 2, 2**20, 1), "<f4", chunks=(1, 2, 64, 1))
    return path


def _absurd_label(folder: Path) -> Path:
    path = folder / "label.h5"
    _hdf5(path)
    with h5py.File(path, "a") as file:
        file.create_dataset("is_los", (64, 2**31), "<f8", chunks=(1, 1024))
    return path


def _absurd_npy(folder: Path) -> Path:
    path = folder / "absurd.npy"
    _npy(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(64, 8, 8)", b"(90000000000, 8, 8)", 1))
    return path


def _bomb(folder: Path) -> Path:
    """An .npz whose member says that it holds 100 GB."""
    path = folder / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<c8", "fortran_order": False, "shape": (12_207_032, 32, 32)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("h.npy", header.getvalue() + bytes(1 << 20))
    return path


def _pickled_npy(folder: Path) -> Path:
    path = folder / "pickled.npy"
    with open(path, "wb") as file:
        np.save(file, np.array([_Code(folder / TRAP)], dtype=object), allow_pickle=True)
    return path


def _pickled_npz(folder: Path) -> Path:
    path = folder / "pickled.npz"
    with open(path, "wb") as file:
        np.savez(file, h=np.array([_Code(folder / TRAP)], dtype=object))
    return path


def _pickled_pt(folder: Path) -> Path:
    path = folder / "pickled.pt"
    torch.save({"h": _Code(folder / TRAP)}, path)
    return path


def _bare_pickle(folder: Path) -> Path:
    path = folder / "bare.pkl"
    path.write_bytes(pickle.dumps(_Code(folder / TRAP)))
    return path


def _objects_mat5(folder: Path) -> Path:
    """A .mat of one object: a struct whose class number says "object"."""
    path = folder / "objects.mat"
    scipy.io.savemat(path, {"channel": {"coeff": np.ones(3)}})
    whole = bytearray(path.read_bytes())
    flags = 128 + 8 + 8  # header, tag of the matrix, tag of its flags
    if whole[flags] != 2:
        raise RuntimeError("scipy writes structs otherwise than this maker knows")
    whole[flags] = 3
    path.write_bytes(bytes(whole))
    return path


def _objects_v73(folder: Path) -> Path:
    path = folder / "objects73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        item = file.create_dataset("channel", data=np.arange(6, dtype=np.uint32)[None])
        item.attrs["MATLAB_class"] = np.bytes_("qd_channel")
        item.attrs["MATLAB_object_decode"] = np.int32(3)
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def _path_bomb(folder: Path) -> Path:
    """QuaDRiGa paths whose coefficients declare 100 GB."""
    path = folder / "paths.hdf5"
    with h5py.File(path, "w") as file:
        file["ChannelDims"] = np.array([1, 1, 1, 1], dtype=np.uint32)
        file["Order"] = np.array([1], dtype=np.uint32)
        group = file.create_group("channel_1")
        for name in ("coeff_re", "coeff_im", "delay"):
            group.create_dataset(name, (800_000_000, 32, 1), "<f4", chunks=(64, 32, 1))
    return path


def _linked_to_itself(folder: Path) -> Path:
    """A root that is 120 groups of its own: 120^4 ways through four levels."""
    path = folder / "circle.h5"
    with h5py.File(path, "w") as file:
        for i in range(120):
            file[f"again_{i}"] = file["/"]
    return path


def _element(kind: int, data: bytes) -> bytes:
    """Tag, data and padding of a MATLAB v5 element."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _head(mx_class: int, shape: tuple[int, ...], name: bytes) -> bytes:
    """Flags, shape and name of a MATLAB v5 matrix."""
    flags, sizes = struct.pack("<II", mx_class, 0), struct.pack(f"<{len(shape)}i", *shape)
    return _element(6, flags) + _element(5, sizes) + _element(1, name)


def _deflated(head: bytes, unit: bytes, times: int, end: bytes = b"") -> bytes:
    """A compressed matrix of a head, `unit` many times over and an end, never held whole."""
    deflate, size = zlib.compressobj(9), len(head) + len(unit) * times + len(end)
    packed = [deflate.compress(struct.pack("<II", 14, size) + head)]
    at_once = max(1, (1 << 20) // len(unit))
    for first in range(0, times, at_once):
        packed.append(deflate.compress(unit * min(at_once, times - first)))
    whole = b"".join([*packed, deflate.compress(end), deflate.flush()])
    return struct.pack("<II", 15, len(whole)) + whole


def _mat5_of(name: str, *elements: bytes) -> Callable[[Path], Path]:
    """A MATLAB v5 file of these elements."""

    def make(folder: Path) -> Path:
        path = folder / name
        head = b"MATLAB 5.0 MAT-file, by hand".ljust(124) + b"\x00\x01IM"
        path.write_bytes(head + b"".join(elements))
        return path

    return make


def _text_bomb(folder: Path) -> Path:
    """Real numbers, which are no channels, and a text of 64 MB."""
    n = 1 << 26
    text = _head(4, (1, n), b"text") + struct.pack("<II", 16, n)
    scipy.io.savemat(folder / "real.mat", {"H": np.ones((4, 4, 4))})
    real = (folder / "real.mat").read_bytes()[128:]
    (folder / "real.mat").unlink()
    return _mat5_of("text.mat", _deflated(text, bytes(8), n // 8), real)(folder)


def _short_text_bomb(folder: Path) -> Path:
    """A text that says it has ten characters and holds 64 MB."""
    n = 1 << 26
    text = _head(4, (1, 10), b"text") + struct.pack("<II", 16, n)
    return _mat5_of("short.mat", _deflated(text, bytes(8), n // 8))(folder)


def _small_array_bomb(folder: Path) -> Path:
    """An array that says it has 64 numbers and holds 128 MB."""
    n = 1 << 27
    array = _head(6, (4, 4, 4), b"H") + struct.pack("<II", 9, n)
    return _mat5_of("array.mat", _deflated(array, bytes(8), n // 8))(folder)


def _struct_bomb(folder: Path) -> Path:
    """A struct of one field, whose 128 MB of zeros take 130 kB."""
    n = 1 << 27
    fields = struct.pack("<HHi", 5, 4, 8) + _element(1, b"h".ljust(8, b"\0"))
    inner = _head(6, (n // 8, 1), b"") + struct.pack("<II", 9, n)
    outer = _head(2, (1, 1), b"data") + fields + struct.pack("<II", 14, len(inner) + n) + inner
    return _mat5_of("struct.mat", _deflated(outer, bytes(8), n // 8))(folder)


def _cell_bomb(folder: Path) -> Path:
    """Two million empty cells, which take 50 kB here and a hundred bytes each in memory."""
    n = 2_000_000
    cells = _deflated(_head(1, (1, n), b"c"), struct.pack("<II", 14, 0), n)
    return _mat5_of("cells.mat", cells)(folder)


def _fields_bomb(folder: Path) -> Path:
    """A struct array of 90,000 places with 90,000 fields each, none of which is there."""
    n = 90_000
    names = struct.pack("<HHi", 5, 4, 1) + struct.pack("<II", 1, n)
    return _mat5_of("fields.mat", _deflated(_head(2, (1, n), b"s") + names, b"a", n))(folder)


_CUT = "Truncated"
_CODE = "never loaded|never read|Objects are not read"

# Kind of file -> its maker, and what the refusal must say.
HOSTILE: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    **{
        f"{kind} cut at {share:.0%}": (_cut(f"cut.{kind}", write, share), _CUT)
        for kind, write in (
            ("mat", _mat5),
            ("h5", _hdf5),
            ("npz", _npz),
            ("npy", _npy),
            ("pt", _pt),
        )
        for share in (0.02, 0.5, 0.95)
    },
    "HDF5 magic alone": (_magic("magic.h5", b"\x89HDF\r\n\x1a\n"), _CUT),
    "MATLAB 5 magic alone": (
        _magic("magic.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"),
        _CUT,
    ),
    "MATLAB 7.3 magic alone": (_magic("magic73.mat", b"MATLAB 7.3 MAT-file".ljust(512)), _CUT),
    "npy magic alone": (_magic("magic.npy", b"\x93NUMPY\x01\x00"), _CUT),
    "zip magic alone": (_magic("magic.npz", b"PK\x03\x04"), _CUT),
    "no magic at all": (_magic("noise.dat", b"\x7fELF"), "no known format"),
    "HDF5 external link": (_external_link, "never followed"),
    "HDF5 external storage": (_external_storage, "never followed"),
    "HDF5 of 100 GB declared": (_absurd_hdf5, r"declares \(12500000, 2, 32, 32\)"),
    "HDF5 of absurd shape": (_absurd_shape_hdf5, r"declares \(1099511627776, 2"),
    "HDF5 label of 1 TB declared": (_absurd_label, "label is_los must hold at most"),
    "HDF5 root linked to itself": (_linked_to_itself, "no array of 3 or 4 axes"),
    "MATLAB v5 text of 64 MB": (_text_bomb, "H holds real numbers"),
    "MATLAB v5 text longer than declared": (_short_text_bomb, "holds 67,108,864 bytes"),
    "MATLAB v5 array longer than declared": (_small_array_bomb, "holds 134,217,728 bytes"),
    "MATLAB v5 struct of 128 MB of zeros": (_struct_bomb, "data is a struct of more than 134 MB"),
    "MATLAB v5 cell of two million": (_cell_bomb, "c is a cell of more than 100,000 arrays"),
    "MATLAB v5 struct of absurd fields": (_fields_bomb, "s is a struct of more than 100,000 arr"),
    "npy of 46 TB declared": (_absurd_npy, r"declares \(90000000000, 8, 8\)"),
    "npz of 100 GB declared": (_bomb, r"declares \(12207032, 32, 32\)"),
    "QuaDRiGa paths of 100 GB declared": (_path_bomb, "never written"),
    "pickled npy": (_pickled_npy, _CODE),
    "pickled npz": (_pickled_npz, _CODE),
    "pickled pt": (_pickled_pt, _CODE),
    "bare pickle": (_bare_pickle, _CODE),
    "MATLAB v5 object": (_objects_mat5, _CODE),
    "MATLAB v7.3 object": (_objects_v73, _CODE),
}
