"""A cell network as a differentiable function of where its users stand.

Placements x in [-1, 1]^(2N) become positions in metres, positions become the SINR of each user, and
that becomes a soft indicator of being served. Shadowing and sector antennas live in
channels.propagation, laws of placements in channels.placements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError, did_you_mean

__all__ = ["CellNetwork", "ServedUsers", "simulate_users"]

Scale = Literal["db", "linear"]
_DB = 10 / math.log(10)  # dB in one unit of the natural logarithm


@dataclass(frozen=True, kw_only=True)
class CellNetwork:
    """Base stations, path loss, noise, and what counts as being served.

        u_i = (x_i + 1) / 2 * area,   d_ij = |u_i - s_j|,   j* = argmin_j d_ij
        P_ij = P_t / (d_ij^alpha + eps)
        SINR_i = P_ij* / (N_0 + sum over j != j* of rho_j P_ij)
        served_i = sigmoid(k (SINR_i - gamma))

    The published simulator calls the ratio an SNR; with the other stations in its denominator it is
    a signal to interference and noise ratio, and is called so here. All of it is defined and
    differentiable on all of R^(2N), on every device and in the precision of x. A user half way
    between two stations has one-sided derivatives only, the value is the same for either.

    The defaults put one user in ten of a uniform law in outage. Without noise three stations never
    give less than -10 log10(2) = -3.01 dB: the worst place is as far from all three.

    Attributes:
        stations_m: Positions s_j [m].
        area_m: Width and height of the area, whose lower left corner is the origin [m].
        exponent: alpha [1], at least 2: 2 in free space, 3 to 4 in a city.
        power_w: P_t, received at 1 m but for eps [W].
        epsilon: eps [m^alpha], keeps the power finite at a station.
        noise_w: N_0 [W]. With P_t = 1 W, 1e-7 W is 10.5 dB below a station 50 m away.
        threshold_db: gamma [dB].
        steepness: k [1/dB], or [1] on the linear ratio. The indicator is a step as it grows.
        scale: Whether the indicator sees dB or, as published, the linear ratio: that has a 99 %
            quantile above 1e3 on a uniform law, so its gradient is 0 for most users.
        load: rho_j [1], share of the time a station transmits, for all or one each: the
            interference is that of the mean.
        shadowing: Log-normal shadowing as a fixed map of each station; None for none.
        pattern: Sector antennas; None for omnidirectional ones.
    Raises:
        CsiAuditError: a value is out of its range.
    """

    stations_m: tuple[tuple[float, float], ...] = ((0.0, 0.0), (100.0, 0.0), (50.0, 100.0))
    area_m: tuple[float, float] = (100.0, 100.0)
    exponent: float = 3.5
    power_w: float = 1.0
    epsilon: float = 1.0
    noise_w: float = 1e-7
    threshold_db: float = 0.0
    steepness: float = 1.0
    scale: Scale = "db"
    load: float | tuple[float, ...] = 1.0
    shadowing: Shadowing | None = None
    pattern: SectorPattern | None = None

    def __post_init__(self) -> None:
        for name in ("stations_m", "area_m", "load"):  # lists, from JSON
            object.__setattr__(self, name, _as_tuples(getattr(self, name)))
        _check_stations(self.stations_m)
        for name in ("power_w", "epsilon", "steepness"):
            _check_positive(name, getattr(self, name))
        for side in self.area_m:
            _check_positive("area_m", side)
        if not (math.isfinite(self.exponent) and self.exponent >= 2):
            raise CsiAuditError(
                f"exponent must be at least 2, that of free space; got {self.exponent}."
            )
        if not (math.isfinite(self.noise_w) and self.noise_w >= 0):
            raise CsiAuditError(f"noise_w must be finite and not negative; got {self.noise_w}.")
        if not math.isfinite(self.threshold_db):
            raise CsiAuditError(f"threshold_db must be finite; got {self.threshold_db}.")
        if self.scale not in get_args(Scale):
            hint = did_you_mean(str(self.scale), get_args(Scale))
            raise CsiAuditError(f"scale must be 'db' or 'linear'; got {self.scale!r}.{hint}")
        self._check_interference()

    def _check_interference(self) -> None:
        shares = self._loads()
        if len(shares) != self.n_stations or not all(0 <= share <= 1 for share in shares):
            raise CsiAuditError(
                f"load must be in [0, 1], one number or one for each of {self.n_stations} "
                f"stations; got {self.load}."
            )
        if self.noise_w == 0 and sum(share > 0 for share in shares) < 2:
            raise CsiAuditError(
                "noise_w must be above 0 where fewer than two stations transmit; got 0. Without "
                "noise and interference the ratio is infinite."
            )
        if self.pattern is not None and len(self.pattern.boresight_deg) != self.n_stations:
            raise CsiAuditError(
                f"pattern must have a boresight for each of {self.n_stations} stations; got "
                f"{len(self.pattern.boresight_deg)}."
            )

    @property
    def n_stations(self) -> int:
        return len(self.stations_m)

    def _loads(self) -> tuple[float, ...]:
        return self.load if isinstance(self.load, tuple) else (self.load,) * self.n_stations

    # --- Coordinates ------------------------------------------------------------------------------

    def to_metres(self, x: Tensor) -> Tensor:
        """Positions u [m] of placements x (..., 2) in the square."""
        return (x + 1) * (x.new_tensor(self.area_m) / 2)

    def to_square(self, u: Tensor) -> Tensor:
        """Placements x of positions u (..., 2) [m]; those in the area land in [-1, 1]."""
        return u / (u.new_tensor(self.area_m) / 2) - 1

    # --- The simulator ----------------------------------------------------------------------------

    def station_distances_m(self, x: Tensor) -> Tensor:
        """d [m] of placements x (..., 2) to every station, (..., M)."""
        return self._offsets(x).square().sum(-1).sqrt()

    def serving_station(self, x: Tensor) -> Tensor:
        """j*, the nearest station of each user, int64 (N, n_users)."""
        return self._offsets(x).square().sum(-1).argmin(-1)

    def sinr_db(self, x: Tensor) -> Tensor:
        """SINR [dB] of each user, (N, n_users), of placements x (N, n_users, 2) anywhere in R^2.

        All in logarithms, so neither a user at a station nor one far outside leaves the range of
        float32.
        """
        _check_shape(x)
        offsets = self._offsets(x)
        log_power = self._log_power(x, offsets)  # (N, n_users, M)
        serving = offsets.square().sum(-1).argmin(-1, keepdim=True)
        signal = log_power.gather(-1, serving)
        others = log_power + x.new_tensor(self._loads()).log()
        others = others.scatter(-1, serving, -torch.inf)
        noise = torch.full_like(signal, math.log(self.noise_w) if self.noise_w else -math.inf)
        disturbance = torch.cat([others, noise], dim=-1).logsumexp(-1)
        return _DB * (signal[..., 0] - disturbance)

    def margin(self, x: Tensor) -> Tensor:
        """k (SINR - gamma) of each user, (N, n_users): its sigmoid is the indicator."""
        sinr_db = self.sinr_db(x)
        if self.scale == "db":
            return self.steepness * (sinr_db - self.threshold_db)
        gamma = 10 ** (self.threshold_db / 10)
        return self.steepness * ((sinr_db / _DB).exp() - gamma)

    def served(self, x: Tensor) -> Tensor:
        """Soft indicator that a user is served, in [0, 1], (N, n_users)."""
        return self.margin(x).sigmoid()

    def log_outage(self, x: Tensor) -> Tensor:
        """log(1 - served), (N, n_users), without the loss of digits near 0."""
        return F.logsigmoid(-self.margin(x))

    def _offsets(self, x: Tensor) -> Tensor:
        """u_i - s_j [m], (..., M, 2)."""
        return self.to_metres(x)[..., None, :] - x.new_tensor(self.stations_m)

    def _log_power(self, x: Tensor, offsets: Tensor) -> Tensor:
        """log P_ij [log W], (N, n_users, M)."""
        squared = offsets.square().sum(-1)  # its power has a derivative at 0, |offset| has none
        loss = (squared.pow(self.exponent / 2) + self.epsilon).log()
        log_power = math.log(self.power_w) - loss
        if self.shadowing is not None:
            shadow_db = self.shadowing.field_db(self.to_metres(x), self.n_stations)
            log_power = log_power + shadow_db / _DB
        if self.pattern is not None:
            log_power = log_power + self.pattern.log_gain(offsets)
        return log_power


class ServedUsers(NamedTuple):
    """What a network makes of placements.

    Attributes:
        sinr_db: SINR [dB], (N, n_users).
        station: Serving station, int64 (N, n_users).
        served: Soft indicator in [0, 1], (N, n_users).
    """

    sinr_db: Tensor
    station: Tensor
    served: Tensor


def simulate_users(placements: Tensor, network: CellNetwork | None = None) -> ServedUsers:
    """SINR, serving station and soft indicator of users in the area: the entry for users' own data.

    Args:
        placements: x, real (N, n_users, 2) in [-1, 1]; see `CellNetwork.to_square` for metres.
        network: The default one for None.
    Raises:
        TypeError: `placements` is no real floating-point tensor.
        CsiAuditError: wrong shape, or a user is outside the square or not finite (names it).
    """
    if not isinstance(placements, Tensor) or not placements.is_floating_point():
        kind = placements.dtype if isinstance(placements, Tensor) else type(placements).__name__
        raise TypeError(f"placements must be a real floating-point tensor; got {kind}.")
    _check_shape(placements)
    outside = ~(placements.abs() <= 1).all(-1)  # NaN too
    if bool(outside.any()):
        sample, user = (int(i) for i in torch.nonzero(outside)[0])
        at = ", ".join(f"{v:g}" for v in placements[sample, user].tolist())
        raise CsiAuditError(
            f"placements must lie in [-1, 1]; user {user} of sample {sample} is at ({at}). Are "
            "these metres? See CellNetwork.to_square."
        )
    network = CellNetwork() if network is None else network
    return ServedUsers(
        sinr_db=network.sinr_db(placements),
        station=network.serving_station(placements),
        served=network.served(placements),
    )


def _check_shape(x: Tensor) -> None:
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != 2:
        raise CsiAuditError(
            f"placements must be (N, n_users, 2), x and y of every user; got {tuple(x.shape)}."
        )


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _check_stations(stations: tuple[tuple[float, float], ...]) -> None:
    if not stations or any(len(s) != 2 or not all(map(math.isfinite, s)) for s in stations):
        raise CsiAuditError(
            f"stations_m must be one or more finite pairs (x, y) in metres; got {stations}."
        )
    if len(set(stations)) < len(stations):
        raise CsiAuditError(f"stations_m must be at different places; got {stations}.")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise CsiAuditError(f"{name} must be finite and above 0; got {value}.")
