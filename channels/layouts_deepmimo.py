"""DeepMIMO's generated channels, of versions 3 and 4, saved from Python or MATLAB.

An array `channel` [user, rx, tx, subcarrier] and, in the same folder of names, what DeepMIMO knows
of its users: LOS status, positions, path loss, path powers, delays and angles.
"""

from __future__ import annotations

import numpy as np

from channels.axes import axis_order
from channels.domains import Panel
from channels.labels import labels_of, user_rows
from channels.opened import Opened, ReadOptions, as_number
from channels.row_views import Rows, Sampled, gathered, sampled
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["deepmimo_layout"]

_CHANNEL = ("channel", "channels")
_LOS = ("los", "LoS", "LoS_status", "los_status")
_POSITION = ("rx_pos", "rx_loc", "location", "loc")
_PATHLOSS = ("pathloss", "path_loss")
_DELAY = ("delay", "toa", "ToA")
_AZIMUTH = ("aod_az", "aod_phi", "DoD_phi")
# A value a path: no labels.
_PER_PATH = (
    *_DELAY,
    *("power", "power_linear", "phase", "doppler", "inter", "inter_pos", "inter_vec", "inter_obj"),
    *("aoa_az", "aoa_el", "aoa_phi", "aoa_theta", "aod_az", "aod_el", "aod_phi", "aod_theta"),
    *("DoA_phi", "DoA_theta", "DoD_phi", "DoD_theta", "path_ids", "array_response_product"),
)
_COMPANIONS = (*_LOS, *_POSITION, *_PATHLOSS, *_PER_PATH, "num_paths", "distance")


def deepmimo_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """DeepMIMO: `channel` [user, rx, tx, subcarrier (, time)] with companions beside it.

        h[r, t, k] = sum_p a[r, t, p] exp(-j 2 pi k tau_p bandwidth / n)

    is its own definition, so the subcarriers run as ours. Where the last axis is as long as the
    delays, the channels may be path coefficients (`freq_domain=0`): the file's own flag decides,
    else the user. Users without any path (los -1) have no channel and are left out; of several
    times the first is read.

    Raises:
        CsiAuditError: several base stations and no choice, paths without channels, a last axis
            that can be read in two ways.
    Source: github.com/DeepMIMO/DeepMIMO, deepmimo/generator/channel.py, deepmimo/consts.py and
        deepmimo/generator/geometry.py (v4); github.com/DeepMIMO/DeepMIMO-python,
        src/DeepMIMOv3/generator.py, construct_deepmimo.py and consts.py (v3).
    """
    name = _channel(workspace, options)
    if name is None:
        _refuse_bare_paths(workspace, options)
        return None
    user = _folder(workspace, name.rpartition("/")[0])
    notices: list[str] = []
    array = _first_time(workspace.arrays[name], notices)
    kept = _kept(user, array.shape[0], notices)
    bandwidth_hz: float | None
    cautions: tuple[str, ...] = ()
    labels = _labels(user, name.rpartition("/")[2], array.shape[0])
    array = array if kept is None else gathered(array, kept)
    if _holds_paths(workspace, name, user, array.shape[3], options):
        found = _sampled(workspace, user, array, kept, options)
        array, bandwidth_hz, cautions = found.rows, found.bandwidth_hz, found.cautions
        notices.extend(found.notices)
    else:
        bandwidth_hz = _bandwidth(workspace, array.shape[3], notices)
    order = axis_order(
        workspace.path,
        name,
        array.shape,
        options.axes or "user,rx,tx,sub",
        is_complex=array.dtype.kind == "c",
    )
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        labels=labels if kept is None else {key: value[kept] for key, value in labels.items()},
        format=f"DeepMIMO ({workspace.container})",
        carrier_hz=_fact(workspace, "rt_params/frequency", "carrier_freq", "carrier_hz"),
        bandwidth_hz=bandwidth_hz,
        panel=_panel(workspace, order.shape(array.shape)[2], notices),
        scaling="raw",
        notices=tuple(notices),
        cautions=cautions,
    )


# --- Which array, which users ---------------------------------------------------------------------


def _channel(workspace: Workspace, options: ReadOptions) -> str | None:
    """Name of the channels; None if the file is not DeepMIMO's."""
    here = []
    for name, array in workspace.arrays.items():
        folder, slash, last = name.rpartition("/")
        known = last in _CHANNEL and len(array.shape) in (4, 5) and "basestation" not in folder
        if known and workspace.first(folder + slash + beside for beside in _COMPANIONS):
            here.append(name)
    if options.variable is not None:
        return options.variable if options.variable in here else None
    if len(here) > 1:
        raise CsiAuditError(
            f"{workspace.path} holds the channels of several base stations or polarisations; "
            f"choose one with --variable: {workspace.listed(here)}."
        )
    return here[0] if here else None


def _refuse_bare_paths(workspace: Workspace, options: ReadOptions) -> None:
    """Raise for DeepMIMO's ray-tracing arrays without channels."""
    bare = {"power", "phase", "delay"} <= workspace.arrays.keys()
    if options.variable is None and bare and workspace.first(_AZIMUTH):
        raise CsiAuditError(
            f"{workspace.path} holds DeepMIMO's paths but no channels. Generate and save them too: "
            "numpy.savez(file, channel=dataset.compute_channels(params), los=dataset.los, ...)."
        )


def _folder(workspace: Workspace, folder: str) -> Workspace:
    """The arrays of one folder of names, under their last names."""
    start = f"{folder}/" if folder else ""
    arrays = {
        name.removeprefix(start): array
        for name, array in workspace.arrays.items()
        if name.startswith(start) and "/" not in name.removeprefix(start)
    }
    return Workspace(path=workspace.path, container=workspace.container, arrays=arrays)


def _first_time(array: Array, notices: list[str]) -> Array:
    """[user, rx, tx, subcarrier] of the first time, where there is an axis of times."""
    if len(array.shape) == 4:
        return array
    if array.shape[4] > 1:
        notices.append(f"Of {array.shape[4]} times of each user the first is read.")

    def fetch(start: int, stop: int) -> np.ndarray:
        return np.asarray(array[start:stop, :, :, :, 0:1])[..., 0]

    return Rows(array.shape[:4], array.dtype, fetch)


def _kept(user: Workspace, n: int, notices: list[str]) -> np.ndarray | None:
    """Rows of the users that have a path; None for all."""
    los, count = user.first(_LOS), user.first(("num_paths",))
    if los is not None:
        reached = user_rows(user.path, los, user.value(los), n) != -1
    elif count is not None:
        reached = user_rows(user.path, count, user.value(count), n) > 0
    else:
        return None
    if reached.all():
        return None
    if not reached.any():
        raise CsiAuditError(f"{user.path}: none of its {n} users has a path to the base station.")
    notices.append(f"{n - int(reached.sum())} of {n} users have no path and were left out.")
    return np.flatnonzero(reached)


# --- Labels and facts -----------------------------------------------------------------------------


def _labels(user: Workspace, channel: str, n: int) -> dict[str, np.ndarray]:
    """What DeepMIMO says of each user, under the compact names where these are known."""
    taken = {channel, *_PER_PATH, *_LOS, *_POSITION, *_PATHLOSS}
    labels = labels_of(user, n, taken)
    named = {"is_los": _LOS, "ue_pos_m": _POSITION, "path_gain_db": _PATHLOSS}
    found = {
        ours: user_rows(user.path, theirs, user.value(theirs), n)
        for ours, names in named.items()
        if (theirs := user.first(names)) is not None
    }
    if "is_los" in found:
        found["is_los"] = found["is_los"] == 1
    if "path_gain_db" in found:
        found["path_gain_db"] = -found["path_gain_db"]
    return labels | found | _spreads(user, n)


def _spreads(user: Workspace, n: int) -> dict[str, np.ndarray]:
    """RMS delay spread [s] and circular azimuth spread of departure [deg] over the paths.

        DS = sqrt(sum_p w_p (tau_p - mean tau)^2),   ASD = sqrt(-2 ln |sum_p w_p exp(j phi_p)|)

    w = power / sum of powers; absent paths are NaN. Azimuths are v4's: of the scene, in degrees.

    Source: 3GPP TR 38.901 V17, section 7.7.3 and Annex A.
    """
    shape = user.shape("power")
    if shape is None or len(shape) != 2 or shape[0] != n:
        return {}
    power = 10 ** (user.value("power").astype(np.float64) / 10)  # of dBW
    spreads = {}
    for name, names in (("delay_spread_s", _DELAY), ("asd_deg", _AZIMUTH)):
        theirs = user.first(names)
        if theirs is None or user.shape(theirs) != shape:
            continue
        value = user.value(theirs).astype(np.float64)
        there = np.isfinite(power) & np.isfinite(value)
        w, value = np.where(there, power, 0), np.where(there, value, 0)
        w /= np.maximum(w.sum(1, keepdims=True), np.finfo(np.float64).tiny)
        if name == "asd_deg":
            length = np.abs((w * np.exp(1j * np.deg2rad(value))).sum(1))
            spreads[name] = np.rad2deg(np.sqrt(-2 * np.log(np.clip(length, 1e-12, 1))))
        else:
            mean = (w * value).sum(1, keepdims=True)
            spreads[name] = np.sqrt((w * (value - mean) ** 2).sum(1))
    return spreads


def _named(workspace: Workspace, *endings: str) -> np.ndarray | None:
    """Values of the first array whose name ends so."""
    for ending in endings:
        for name in workspace.arrays:
            if name == ending or name.endswith(f"/{ending}"):
                return workspace.value(name)
    return None


def _fact(workspace: Workspace, *endings: str) -> float | None:
    value = _named(workspace, *endings)
    return None if value is None else as_number(value)


def _stated_hz(workspace: Workspace) -> float | None:
    """Bandwidth of all subcarriers [Hz]: v4 states hertz, v3 gigahertz."""
    hz, giga = (
        _fact(workspace, "ofdm/bandwidth", "bandwidth_hz"),
        _fact(workspace, "OFDM/bandwidth"),
    )
    return 1e9 * giga if hz is None and giga is not None else hz


def _bandwidth(workspace: Workspace, n: int, notices: list[str]) -> float | None:
    """n times the spacing of the subcarriers in the file [Hz], from the OFDM parameters.

    DeepMIMO spreads `bandwidth` over `subcarriers` and generates only `selected_subcarriers`.
    """
    hz = _stated_hz(workspace)
    total = _fact(workspace, "ofdm/subcarriers", "OFDM/subcarriers")
    if hz is None or total is None:
        return hz if total is None else None
    chosen = _named(workspace, "ofdm/selected_subcarriers", "OFDM/selected_subcarriers")
    index = np.arange(int(total)) if chosen is None else np.asarray(chosen).reshape(-1)
    steps = np.unique(np.diff(index))
    if len(index) != n or len(steps) > 1:
        notices.append("Its OFDM parameters do not fit its subcarriers: the bandwidth is unknown.")
        return None
    return hz / total * n * float(steps[0] if len(steps) else 1)


def _panel(workspace: Workspace, n_tx: int, notices: list[str]) -> Panel | None:
    """Panel of the base station: of `shape` (y, z) the y runs fastest."""
    value = _named(workspace, "bs_antenna/shape")
    if value is None or np.size(value) != 2 or n_tx == 1:
        return None
    columns, rows = (int(n) for n in np.asarray(value).reshape(-1))
    if rows * columns != n_tx or 1 in (rows, columns):
        return None
    notices.append(f"The base station's panel is {rows} rows x {columns} columns (bs_antenna).")
    return (1, rows, columns)


# --- Path coefficients ----------------------------------------------------------------------------


def _holds_paths(
    workspace: Workspace, name: str, user: Workspace, n: int, options: ReadOptions
) -> bool:
    """Whether the last axis of the channels, of length n, is one of paths.

    Raises:
        CsiAuditError: it may be either.
    """
    delay = user.first(_DELAY)
    shape = user.shape(delay) if delay is not None else None
    if shape is None or len(shape) != 2 or options.axes is not None:
        return False
    n_path, flag = shape[1], _fact(workspace, "freq_domain", "OFDM_channels")
    if flag is not None or n != n_path:
        return flag == 0
    if options.n_sub is not None and options.n_sub != n:
        return True
    raise CsiAuditError(
        f"{workspace.path}: the last axis of {name} {workspace.shape(name)} is as long as its "
        f"{n_path} path delays. Choose: --axes user,rx,tx,sub if it holds {n} subcarriers; n_sub= "
        "(--n_sub 32) and a bandwidth to sample at, if it holds paths (freq_domain=0)."
    )


def _sampled(
    workspace: Workspace,
    user: Workspace,
    array: Array,
    kept: np.ndarray | None,
    options: ReadOptions,
) -> Sampled:
    """Path coefficients [user, rx, tx, path] as subcarriers, with the delays beside them."""
    delay = user.arrays[user.first(_DELAY) or ""]
    delay = delay if kept is None else gathered(delay, kept)
    n_path = min(array.shape[3], delay.shape[1])

    def paths(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        coeff = np.asarray(array[start:stop])[..., :n_path]
        return coeff, np.asarray(delay[start:stop])[:, :n_path]

    n, n_rx, n_tx, _ = array.shape
    hz = _stated_hz(workspace)
    return sampled(workspace, options, paths, (n, n_rx, n_tx), bandwidth_hz=hz)
