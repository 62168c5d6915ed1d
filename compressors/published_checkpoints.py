"""Checkpoints of the CRNet family as their authors publish them, as compressors of the zoo.

Each repository names its weights in its own way; a table a repository turns our names into theirs.
Which repository a file comes from, its ratio and its width follow from names and shapes alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.support import CsiAuditError, file_sha256
from compressors.checkpoint_reading import read_checkpoint
from compressors.neural import CompressorNetwork
from compressors.zoo import CompressorSpec

N_INPUT = 2048
"""Real numbers of a published channel, 2 x 32 x 32."""
_COUNTED = "num_batches_tracked"  # of no use in evaluation; old files lack it
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class PublishedCheckpoint:
    """A checkpoint as a compressor.

    Attributes:
        path: The file.
        arch: "crnet", "clnet", "acrnet" or "transnet".
        spec: All that the network is built from.
        network: In evaluation mode, without gradients in the weights; it reads [0, 1] about 0.5.
        sha256: Of the file.
    """

    path: Path
    arch: str
    spec: CompressorSpec
    network: CompressorNetwork
    sha256: str

    @property
    def ratio(self) -> float:
        """Compression ratio 2048 / n_code."""
        return N_INPUT / self.spec.n_code

    @property
    def expansion(self) -> int | None:
        """Width of an ACRNet; None for the others."""
        width: int | None = dict(self.spec.options).get("expansion")
        return width


# --- Names: ours -> theirs ------------------------------------------------------------------------


def _norms(pairs: Mapping[str, str]) -> dict[str, str]:
    """Convolutions with their batch norms: ours X.0 and X.1, theirs Y.conv and Y.bn."""
    return {
        f"{own}.{place}": f"{theirs}.{part}"
        for own, theirs in pairs.items()
        for place, part in (("0", "conv"), ("1", "bn"))
    }


def _cr_block(own: str, theirs: str, reach: int) -> dict[str, str]:
    return {
        f"{own}.fine.0": f"{theirs}.path1.conv3x3",
        f"{own}.fine.2": f"{theirs}.path1.conv1x{reach}",
        f"{own}.fine.4": f"{theirs}.path1.conv{reach}x1",
        f"{own}.coarse.0": f"{theirs}.path2.conv1x5",
        f"{own}.coarse.2": f"{theirs}.path2.conv5x1",
        f"{own}.merge": f"{theirs}.conv1x1",
    }


def _cr_decoder(theirs: str, reach: int) -> dict[str, str]:
    return {
        "entry": f"{theirs}.conv5x5_bn",
        **_cr_block("blocks.0", f"{theirs}.CRBlock1", reach),
        **_cr_block("blocks.1", f"{theirs}.CRBlock2", reach),
    }


def _fine_path(theirs: str) -> dict[str, str]:
    kernels = {"fine.0": "conv3x3_bn", "fine.2": "conv1x9_bn", "fine.4": "conv9x1_bn"}
    return {own: f"{theirs}.{kernel}" for own, kernel in kernels.items()}


_CRNET = {
    **_norms(
        {
            **_fine_path("encoder1"),
            "coarse": "encoder2",
            "merge": "encoder_conv.conv1x1_bn",
            **_cr_decoder("decoder_feature", 9),
        }
    ),
    "to_code": "encoder_fc",
    "from_code": "decoder_fc",
}
_CLNET = {
    **_norms(
        {
            **_fine_path("encoder.encoder1"),
            "fine.5.gate": "encoder.sa.spatial",
            "wide": "encoder.encoder2",
            "merge": "encoder.encoder_conv.conv1x1_bn",
            **_cr_decoder("decoder.decoder_feature", 3),
        }
    ),
    "excite.squeeze": "encoder.se.fc.0",
    "excite.excite": "encoder.se.fc.2",
    "to_code": "encoder.replace_efc",
    "from_code": "decoder.replace_dfc",
}


def _acrnet() -> dict[str, str]:
    norms, others = {}, {"to_code": "encoder_fc", "from_code": "decoder_fc"}
    for half in ("encoder", "decoder"):
        theirs = f"{half}_feature"
        norms[f"{half}.0"] = f"{theirs}.conv5x5_bn"
        others[f"{half}.1"] = f"{theirs}.prelu"
        for number in (1, 2):
            own, block = f"{half}.{number + 1}", f"{theirs}.ACR{half.title()}Block{number}"
            steps = 2 if half == "encoder" else 3
            for step in range(1, steps + 1):
                conv = f"conv_bn{step}" if half == "encoder" else f"conv{step}_bn"
                slope = "slope" if step == steps else f"path.{2 * step - 1}"
                norms[f"{own}.path.{2 * step - 2}"] = f"{block}.{conv}"
                others[f"{own}.{slope}"] = f"{block}.prelu{step}"
    return {**_norms(norms), **others}


def _transnet() -> dict[str, str]:
    names = {"norm": "decoder.norm", "to_code": "fc_encoder", "from_code": "fc_decoder"}
    for half in ("encoder", "decoder"):
        theirs = f"{half}.layer"
        attention = {"attend": "self_attn"}
        if half == "decoder":
            attention["recall"] = "multihead_attn"
        for own, named in attention.items():
            names[f"{half}.{own}.project.weight"] = f"{theirs}.{named}.in_proj_weight"
            names[f"{half}.{own}.project.bias"] = f"{theirs}.{named}.in_proj_bias"
            names[f"{half}.{own}.out"] = f"{theirs}.{named}.out_proj"
        names[f"{half}.feed.0"] = f"{theirs}.linear1"
        names[f"{half}.feed.2"] = f"{theirs}.linear2"
        for number in range(3 if half == "decoder" else 2):
            names[f"{half}.norms.{number}"] = f"{theirs}.norm{number + 1}"
    return names


def _fine_first(weight: Tensor) -> Tensor:
    """Their merging layer takes the fine path's two channels first, ours last."""
    return torch.cat([weight[:, 2:], weight[:, :2]], dim=1)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """names: prefixes, ours -> theirs; changed: our weights that theirs must be turned into."""

    names: Mapping[str, str]
    changed: Mapping[str, Callable[[Tensor], Tensor]]

    def theirs(self, own: str) -> str:
        """Their name of one of our weights: the longest prefix decides."""
        fits = [prefix for prefix in self.names if own == prefix or own.startswith(f"{prefix}.")]
        prefix = max(fits, key=len)
        return self.names[prefix] + own[len(prefix) :]


_LAYOUTS: dict[str, _Layout] = {
    "crnet": _Layout(names=_CRNET, changed={"merge.0.weight": _fine_first}),
    "clnet": _Layout(names=_CLNET, changed={"merge.0.weight": _fine_first}),
    "acrnet": _Layout(names=_acrnet(), changed={}),
    "transnet": _Layout(names=_transnet(), changed={}),
}


# --- Recognition ----------------------------------------------------------------------------------


def load_published(path: Path) -> PublishedCheckpoint:
    """A published checkpoint as a compressor of the zoo, its convention not yet set.

    Args:
        path: .pth or .pth.tar of CRNet, CLNet, ACRNet (any expansion) or TransNet.
    Raises:
        CsiAuditError: unreadable, asks to run something, or of none of these; lists the weights
            that are missing and those that are too many.
    Source: github.com/Kylin9511/CRNet, github.com/SIJIEJI/CLNet, github.com/Kylin9511/ACRNet,
        github.com/Treedy2020/TransNet (names of the weights).
    """
    weights = read_checkpoint(path)
    arch = _architecture(weights, path)
    layout = _LAYOUTS[arch]
    spec = _spec(arch, weights, path)
    network = _built(spec)
    own = network.state_dict()
    for name in own:
        value = weights.get(layout.theirs(name))
        if value is None:
            continue  # a counter of batches: the names were checked
        turned = layout.changed[name](value) if name in layout.changed else value
        if turned.shape != own[name].shape:
            raise CsiAuditError(
                f"{path}: {layout.theirs(name)} of {arch} must be {tuple(own[name].shape)}; got "
                f"{tuple(value.shape)}. Is it for other channels than 32 x 32?"
            )
        own[name] = turned
    network.load_state_dict(own)
    network.eval().requires_grad_(False)
    return PublishedCheckpoint(
        path=path, arch=arch, spec=spec, network=network, sha256=file_sha256(path)
    )


def _built(spec: CompressorSpec) -> CompressorNetwork:
    """Fresh weights are drawn, then overwritten."""
    with torch.random.fork_rng(devices=[]):
        return spec.build()


def _architecture(weights: Mapping[str, Tensor], path: Path) -> str:
    """The architecture whose names the file has, all of them and no others."""
    found = {name for name in weights if not name.endswith(_COUNTED)}
    wanted = {arch: _names(arch) for arch in _LAYOUTS}
    closest = max(wanted, key=lambda arch: len(found & wanted[arch]) / len(found | wanted[arch]))
    missing, extra = wanted[closest] - found, found - wanted[closest]
    if not missing and not extra:
        return closest
    if not found & wanted[closest]:
        raise CsiAuditError(
            f"{path} holds weights of no architecture known here ({_listed(found)}). Known: "
            f"{', '.join(_LAYOUTS)}. Name your own class, which loads them, as file.py:Class."
        )
    raise CsiAuditError(
        f"{path} is closest to {closest}, but lacks {_listed(missing)} and has besides "
        f"{_listed(extra)}. Name your own class, which loads it, as file.py:Class."
    )


def _names(arch: str) -> set[str]:
    """Their names of all weights but the counters of batches."""
    with torch.device("meta"):  # nothing is drawn
        own = CompressorSpec(arch=arch, n_code=1).build().state_dict()
    return {_LAYOUTS[arch].theirs(name) for name in own if not name.endswith(_COUNTED)}


def _spec(arch: str, weights: Mapping[str, Tensor], path: Path) -> CompressorSpec:
    """Code length and width from the shapes."""
    layout = _LAYOUTS[arch]
    code = weights[layout.theirs("to_code.weight")]
    if code.ndim < 2 or code.shape[1] != N_INPUT:
        raise CsiAuditError(
            f"{path}: {layout.theirs('to_code.weight')} of {arch} must take {N_INPUT} numbers (2 x "
            f"32 x 32 channels); got {tuple(code.shape)}."
        )
    options: dict[str, Any] = {}
    if arch == "acrnet":
        options["expansion"] = weights[layout.theirs("decoder.2.path.0.0.weight")].shape[0] // 8
    return CompressorSpec(arch=arch, n_code=code.shape[0], options=tuple(options.items()))


def _listed(names: set[str]) -> str:
    """`nothing`, or how many and the first few."""
    if not names:
        return "nothing"
    shown = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} weights ({shown})"
