"""The arrays that figures are drawn from, in one container, and the small sums that fill it.

The engine fills a `ReportArrays` and keeps it in `samples.h5` by way of `to_flat`/`from_flat`
(a mapping of path to array, ready for HDF5). Nothing here draws.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from channels.domains import Panel, to_spatial_frequency
from reports.flat_arrays import (
    DAMAGES,
    coded_text,
    damaged_arrays,
    finite_array,
    flat_mapping,
    read_mapping,
    text_codes,
)
from reports.reweighting import normalised_weights

Array = npt.NDArray[Any]

_AXES = ("delay_s", "sin_azimuth", "frequency_hz")
_MAPPINGS = {  # axes of each value
    **dict.fromkeys(("nmse_base", "nmse_real", "log_l", "nmse_issgm"), 1),
    **dict.fromkeys(("worst_base", "worst_real", "error_base"), 2),
    **dict.fromkeys(("features_base", "features_real"), 1),
}


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """One channel of low or of high distortion with its reconstruction.

    Attributes:
        compressor: Whose distortion it is.
        source: "base" or "real".
        side: "low" or "high" distortion.
        index: Row in the base samples or in the real file.
        nmse: Its linear NMSE.
        x: Audit-space map [2 n_rx, n_tx, n_delay]: (re rx0, im rx0, re rx1, ...), FFT order.
        x_hat: Reconstruction, same shape and scale.
        mode: Number of the failure mode that it shows, from 0; -1 for none.
    """

    compressor: str
    source: Literal["base", "real"]
    side: Literal["low", "high"]
    index: int
    nmse: float
    x: Array
    x_hat: Array
    mode: int = -1


@dataclass(frozen=True, kw_only=True)
class ModeMaps:
    """Where the failures of one mode have their power, and where it is lost.

    Attributes:
        compressor: Whose failures they are.
        mode: Number of the mode, from 0.
        power: Mean angular-delay power of the mode's failures, [n_tx, n_delay], FFT order.
        error: Mean power of their reconstruction error, same scale.
    """

    compressor: str
    mode: int
    power: Array
    error: Array


@dataclass(frozen=True, kw_only=True)
class ReportArrays:
    """What the figures need. Mappings are by compressor name unless said otherwise.

    Attributes:
        delay_s: Delay of each tap, storage order, [n_delay].
        sin_azimuth: sin(azimuth) of each beam, storage (FFT) order, [n_tx]; in a panel every row of
            each polarisation has the same.
        frequency_hz: Subcarrier offset from the carrier, [n_sub].
        nmse_base: Linear NMSE of every base sample, [n_base].
        nmse_real: Linear NMSE of every real channel, [n_real]; no entry without real channels.
        log_l: Log importance weight of every base sample (q is proportional to l p), [n_base].
        nmse_issgm: Linear NMSE of the paper's guided samples, [n_issgm]; may lack names.
        exemplars: Low- and high-distortion channels of both sources, in order of display.
        power_base: Mean power of all base samples, [n_tx, n_delay], FFT order; None without any.
        power_real: The same of all real channels; None without any.
        worst_base: Mean power of the worst `worst_share` of base samples, [n_tx, n_delay].
        worst_real: The same of real channels.
        worst_share: Share that counts as worst, 0.01 = 1 %.
        bandwidth_known: False where the file gives no bandwidth: delay_s then counts taps and
            frequency_hz counts subcarriers.
        panel: (n_pol, n_rows, n_columns) of the transmit axis; None is one row.
        features_base: By feature name, one value a base sample as channels.features gives it,
            [n_base].
        features_real: By feature name, [n_real].
        error_base: Mean power of the reconstruction error of all base samples, [n_tx, n_delay].
        mode_maps: Maps of the failure modes.
    """

    delay_s: Array
    sin_azimuth: Array
    frequency_hz: Array
    nmse_base: Mapping[str, Array] = field(default_factory=dict)
    nmse_real: Mapping[str, Array] = field(default_factory=dict)
    log_l: Mapping[str, Array] = field(default_factory=dict)
    nmse_issgm: Mapping[str, Array] = field(default_factory=dict)
    exemplars: tuple[Exemplar, ...] = ()
    power_base: Array | None = None
    power_real: Array | None = None
    worst_base: Mapping[str, Array] = field(default_factory=dict)
    worst_real: Mapping[str, Array] = field(default_factory=dict)
    worst_share: float = 0.01
    bandwidth_known: bool = True
    panel: Panel | None = None
    features_base: Mapping[str, Array] = field(default_factory=dict)
    features_real: Mapping[str, Array] = field(default_factory=dict)
    error_base: Mapping[str, Array] = field(default_factory=dict)
    mode_maps: tuple[ModeMaps, ...] = ()

    def __post_init__(self) -> None:
        """Refuse maps whose axes do not fit, in one line that names them."""
        shape = (len(self.sin_azimuth), len(self.delay_s))
        if self.panel is not None and math.prod(self.panel) != shape[0]:
            raise ValueError(f"panel must multiply to n_tx = {shape[0]}; got {self.panel}.")
        maps = {"power_base": self.power_base, "power_real": self.power_real}
        maps |= {f"worst_base[{k}]": v for k, v in self.worst_base.items()}
        maps |= {f"worst_real[{k}]": v for k, v in self.worst_real.items()}
        maps |= {f"error_base[{k}]": v for k, v in self.error_base.items()}
        maps |= {f"exemplars[{i}].x": e.x[0] for i, e in enumerate(self.exemplars)}
        maps |= {f"mode_maps[{i}].power": m.power for i, m in enumerate(self.mode_maps)}
        maps |= {f"mode_maps[{i}].error": m.error for i, m in enumerate(self.mode_maps)}
        for name, map_ in maps.items():
            if map_ is not None and np.shape(map_) != shape:
                raise ValueError(f"{name} must be [n_tx, n_delay] = {shape}; got {np.shape(map_)}.")

    @property
    def column_sines(self) -> Array:
        """sin(azimuth) of each column beam, FFT order, [n_columns]."""
        return self.sin_azimuth if self.panel is None else self.sin_azimuth[: self.panel[2]]

    def over_columns(self, power: npt.ArrayLike) -> Array:
        """Power [n_tx, n] summed over rows and polarisations, which share their azimuths:
        [n_columns, n]."""
        values = np.asarray(power)
        return np.asarray(values.reshape(-1, len(self.column_sines), values.shape[-1]).sum(0))

    def to_flat(self) -> dict[str, Array]:
        """Arrays by slash-separated path, for HDF5 groups; names are percent-free and reversible.

        Mappings become "<field>/<i>" with their names in "<field>/names" (UTF-8 bytes), exemplars
        one stacked array per attribute.
        """
        flat: dict[str, Array] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                flat |= flat_mapping(item.name, value)
            elif item.name == "exemplars":
                flat |= _flat_exemplars(value)
            elif item.name == "mode_maps":
                flat |= _flat_mode_maps(value)
            elif value is not None:
                flat[item.name] = np.asarray(value)
        return flat

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> "ReportArrays":
        """Inverse of `to_flat`; values may be h5py datasets.

        Raises:
            CsiAuditError: the arrays are not what `to_flat` gives: an axis or an entry is missing,
                something is no number or not finite, or shapes do not fit.
        """
        try:
            data = {key: np.asarray(value) for key, value in flat.items()}
            missing = [key for key in _AXES if key not in data]
            if missing:
                raise KeyError(", ".join(missing))
            return cls(**_read_fields(data))
        except DAMAGES as error:
            raise damaged_arrays(error) from error


def _read_fields(data: Mapping[str, Array]) -> dict[str, Any]:
    """Arguments of `ReportArrays` from its flat form; ValueError where figures would fail later."""
    found: dict[str, Any] = {}
    for key in (*_AXES, "power_base", "power_real"):
        if key in data:
            found[key] = finite_array(key, data[key], ndim=1 if key in _AXES else 2)
    if "panel" in data:
        n_pol, n_rows, n_columns = finite_array("panel", data["panel"], ndim=1).tolist()
        found["panel"] = (int(n_pol), int(n_rows), int(n_columns))
    for key in ("worst_share", "bandwidth_known"):
        if key in data:
            found[key] = finite_array(key, data[key], ndim=0).item()
    for key, ndim in _MAPPINGS.items():
        found[key] = read_mapping(data, key, ndim=ndim, log=key == "log_l")
    for name, log_l in found.get("log_l", {}).items():
        if log_l.shape != found["nmse_base"][name].shape:
            raise ValueError(f"log_l of {name} does not fit its nmse_base")
    found["exemplars"], found["mode_maps"] = _read_exemplars(data), _read_mode_maps(data)
    return found


def mean_power(x: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Array:
    """Mean angular-delay power E|x|^2 over samples, summed over receive antennas.

    Args:
        x: Audit-space maps, real [n, 2 n_rx, n_tx, n_delay].
        weight: Non-negative weight of each sample [n]; None counts all alike.
    Returns:
        Power [n_tx, n_delay], float64, FFT order.
    """
    maps = np.asarray(x)
    w = np.ones(len(maps)) if weight is None else np.asarray(weight, dtype=np.float64)
    if w.shape != (len(maps),) or w.sum() <= 0:
        raise ValueError(f"weight must be [n] with a positive sum; got shape {w.shape}.")
    return np.asarray(np.einsum("n,ncad,ncad->ad", w / w.sum(), maps, maps, dtype=np.float64))


def map_power(x: npt.ArrayLike) -> Array:
    """|x|^2 of one map summed over receive antennas, [2 n_rx, n_tx, n] -> [n_tx, n]."""
    return np.asarray(np.square(np.asarray(x, dtype=np.float64)).sum(0))


def to_spatial_map(x: npt.ArrayLike, n_sub: int, panel: Panel | None = None) -> Array:
    """Power over antennas and subcarriers of one angular-delay map, [2 n_rx, n_tx, n_delay].

    Cropped delays count as zero. Summed over receive antennas: [n_tx, n_sub]. A panel
    (n_pol, n_rows, n_columns) goes back by its own transform.
    """
    maps = np.asarray(x, dtype=np.float64)
    full = np.zeros((*maps.shape[:2], max(n_sub, maps.shape[2])))
    full[..., : maps.shape[2]] = maps
    re, im = (torch.from_numpy(full[i::2]) for i in (0, 1))
    h = to_spatial_frequency(torch.complex(re, im), panel)
    return np.asarray(h.abs().square().sum(0))


def worst_weight(
    nmse: npt.ArrayLike, share: float = 0.01, log_w: npt.ArrayLike | None = None
) -> Array:
    """Weight of each sample within the worst `share` of the law the samples stand for.

    Samples are taken from the highest NMSE down until they hold the share; the last one counts in
    part, so the weights sum to the share exactly.

    Args:
        nmse: Distortion, higher is worse, [n].
        share: Share in (0, 1].
        log_w: Log weights [n] when the samples are not draws of the law itself.
    Returns:
        Weights [n], float64, sum = share.
    """
    bad = np.asarray(nmse, dtype=np.float64)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1]; got {share}. 1 % is written 0.01.")
    w = normalised_weights(np.zeros(len(bad)) if log_w is None else log_w)
    order = np.argsort(-bad, kind="stable")
    before = np.cumsum(w[order]) - w[order]  # mass of all worse samples
    kept = np.zeros_like(w)
    kept[order] = np.clip(share - before, 0.0, w[order])
    return kept


def exemplar_indices(nmse: npt.ArrayLike, k: int = 1) -> tuple[Array, Array]:
    """Rows of the k lowest (ascending) and the k highest distortions (descending)."""
    order = np.argsort(np.asarray(nmse), kind="stable")
    return order[:k], order[::-1][:k]


def _flat_exemplars(exemplars: tuple[Exemplar, ...]) -> dict[str, Array]:
    if not exemplars:
        return {}
    flat = {f"exemplars/{key}": text_codes([str(getattr(e, key)) for e in exemplars])
            for key in ("compressor", "source", "side")}  # fmt: skip
    for key in ("index", "nmse", "x", "x_hat", "mode"):
        flat[f"exemplars/{key}"] = np.stack([np.asarray(getattr(e, key)) for e in exemplars])
    return flat


def _read_exemplars(data: Mapping[str, Array]) -> tuple[Exemplar, ...]:
    if "exemplars/x" not in data:
        return ()
    words = {key: coded_text(data[f"exemplars/{key}"]) for key in ("compressor", "source", "side")}
    x, x_hat = (finite_array(key, data[f"exemplars/{key}"], ndim=4) for key in ("x", "x_hat"))
    if x.shape != x_hat.shape or x.shape[1] % 2:
        raise ValueError(f"exemplars do not fit their reconstructions: {x.shape}, {x_hat.shape}")
    return tuple(
        Exemplar(
            compressor=words["compressor"][i],
            source="real" if words["source"][i] == "real" else "base",
            side="high" if words["side"][i] == "high" else "low",
            index=int(data["exemplars/index"][i]),
            nmse=float(data["exemplars/nmse"][i]),
            x=x[i],
            x_hat=x_hat[i],
            mode=int(data["exemplars/mode"][i]) if "exemplars/mode" in data else -1,
        )
        for i in range(len(x))
    )


def _flat_mode_maps(maps: tuple[ModeMaps, ...]) -> dict[str, Array]:
    if not maps:
        return {}
    flat = {f"mode_maps/{key}": np.stack([np.asarray(getattr(m, key)) for m in maps])
            for key in ("mode", "power", "error")}  # fmt: skip
    return flat | {"mode_maps/compressor": text_codes([m.compressor for m in maps])}


def _read_mode_maps(data: Mapping[str, Array]) -> tuple[ModeMaps, ...]:
    if "mode_maps/power" not in data:  # none found, or a file of before
        return ()
    names = coded_text(data["mode_maps/compressor"])
    power, error = (
        finite_array(key, data[f"mode_maps/{key}"], ndim=3) for key in ("power", "error")
    )
    return tuple(
        ModeMaps(compressor=names[i], mode=int(data["mode_maps/mode"][i]), power=p, error=e)
        for i, (p, e) in enumerate(zip(power, error, strict=True))
    )
