"""Bad input of the command line: one line that names file, value and way out; exit code 2."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from csi_audit.command_line import EXIT_BAD_INPUT, main

pytestmark = pytest.mark.end_to_end


def channels(n_tx: int = 32, n: int = 40) -> npt.NDArray[np.complex64]:
    """Random channels (n, n_tx, 32) as QuaDRiGa scales them."""
    random = np.random.default_rng(0)
    shape = (n, n_tx, 32)
    h = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    return (1e-6 * h).astype(np.complex64)


def saved(folder: Path, name: str = "users.mat", **variables: npt.NDArray[np.generic]) -> str:
    """A MATLAB v5 file."""
    path = folder / name
    scipy.io.savemat(path, {"bandwidth_hz": 1e7, "fc_hz": 2.655e9, **variables})
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command prints."""
    assert main(list(arguments)) == EXIT_BAD_INPUT
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("csi-audit: ")
    return lines[0]


def run(data: str, tmp_path: Path) -> list[str]:
    return ["run", "--data", data, "--compressor", "klt-16", "--out", str(tmp_path / "run")]


def test_missing_file_names_its_neighbour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, H=channels())
    line = refused(capsys, *run(str(tmp_path / "user.mat"), tmp_path))
    assert "user.mat" in line
    assert "Did you mean 'users.mat'" in line
    assert not (tmp_path / "run").exists()


def test_truncated_mat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(saved(tmp_path, H=channels()))
    path.write_bytes(path.read_bytes()[:9000])
    line = refused(capsys, *run(str(path), tmp_path))
    assert "users.mat" in line


def test_wrong_variable_lists_the_candidates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, H=channels())
    line = refused(capsys, *run(path, tmp_path), "--variable", "h_down")
    assert "h_down" in line
    assert "'H'" in line or " H" in line


def test_wrong_shape_says_both_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, H=channels(n_tx=64))
    line = refused(capsys, *run(path, tmp_path))
    assert "64 transmit antennas" in line
    assert "32 transmit antennas" in line
    assert "fit-base" in line


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "finite")])
def test_nan_and_inf_name_the_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float, word: str
) -> None:
    h = channels()
    h[3, 0, 0] = value
    line = refused(capsys, *run(saved(tmp_path, H=h), tmp_path))
    assert "3" in line
    assert "NaN" in line or "finite" in line or word in line


def test_zero_power_users_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    h = channels()
    h[[2, 4]] = 0
    line = refused(capsys, *run(saved(tmp_path, H=h), tmp_path))
    assert "2" in line
    assert "power" in line or "zero" in line


def test_real_instead_of_complex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, *run(saved(tmp_path, H=channels().real.copy()), tmp_path))
    assert "complex" in line
    assert "users.mat" in line


def test_unwritable_output_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    path = saved(tmp_path, H=channels())
    arguments = ["run", "--data", path, "--compressor", "klt-16"]
    line = refused(capsys, *arguments, "--out", str(tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in line
    assert "another path" in line


def test_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    line = refused(capsys, *run(saved(tmp_path, H=channels()), tmp_path))
    assert "thesis.tex" in line
    assert (tmp_path / "run" / "thesis.tex").read_text() == "precious"


def test_unknown_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, H=channels())
    out = str(tmp_path / "fit")
    line = refused(capsys, "fit-compressor", path, "--arch", "crnt", "--out", out)
    assert "'crnt'" in line
    assert "Did you mean 'crnet'" in line


def test_unknown_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, H=channels())
    out = str(tmp_path / "fit")
    line = refused(capsys, "fit-base", path, "--network", "unets", "--out", out)
    assert "Did you mean 'unet'" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rum"], ["'rum'", "Did you mean 'run'"]),
        (["run", "--compressor", "klt-16"], ["data"]),
        (["inspect", "x.h5", "--variabel", "H"], ["--variabel", "variable"]),
        (["demo", "--seed", "one"], ["seed", "one"]),
        (["report", "nowhere"], ["nowhere"]),
    ],
)
def test_misspelt_commands_and_flags(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    line = refused(capsys, *arguments)
    for word in words:
        assert word in line, line


def test_unknown_compressor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, H=channels())
    line = refused(capsys, "run", "--data", path, "--compressor", "kltt-16")
    assert "Did you mean 'klt-16'" in line


def test_ratio_that_does_not_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, H=channels())
    out = str(tmp_path / "fit")
    line = refused(capsys, "fit-compressor", path, "--ratio", "7", "--out", out)
    assert "ratio must divide" in line
    assert "7" in line
