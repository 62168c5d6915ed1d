"""Losses and weights of a cell network: how many users a placement leaves unserved, and how far.

The network itself is channels.network's. All are defined and differentiable on all of R^(2N), for
particles leave the square on their way, and none depends on the order of the users.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from channels.network import CellNetwork
from channels.support import CsiAuditError

Worse = Literal["high", "low"]


class SoftOutage(Protocol):
    """A loss in [0, 1] that gives its own logarithm, without loss of digits near 0."""

    name: str
    unit: str
    worse: Worse

    def __call__(self, x: Tensor) -> Tensor: ...
    def log(self, x: Tensor) -> Tensor: ...


class ExpectedOutageLoss:
    """Mean over the users of 1 - served_i: the expected share of unserved users."""

    name, unit = "expected_outage", "1"
    worse: Worse = "high"

    def __init__(self, network: CellNetwork) -> None:
        self.network = network

    def __call__(self, x: Tensor) -> Tensor:
        return self.log(x).exp()

    def log(self, x: Tensor) -> Tensor:
        """log of the loss, (N,)."""
        return self.network.log_outage(x).logsumexp(1) - math.log(x.shape[1])


class JointOutageLoss:
    """Probability that at least m of the users are unserved, each with its own 1 - served_i.

        P(sum_i B_i >= m),   B_i independent Bernoulli(1 - served_i)

    Differentiable; as the steepness k grows it becomes 1 where `OutageCountLoss` reaches m, else 0.

    Args:
        network: Says who is served.
        at_least: m.
    Raises:
        CsiAuditError: m is below 1; in a call, above the number of users.
    """

    unit = "1"
    worse: Worse = "high"

    def __init__(self, network: CellNetwork, *, at_least: int) -> None:
        _check_rank("at_least", at_least)
        self.network, self.at_least = network, at_least
        self.name = f"joint_outage_{at_least}"

    def __call__(self, x: Tensor) -> Tensor:
        return self.log(x).exp()

    def log(self, x: Tensor) -> Tensor:
        """log of the loss, (N,), by counting one user after another.

        t_j is the probability of j unserved users so far, m or more of them counted as m.
        """
        margin, m = self.network.margin(x), self.at_least
        _check_enough(m, x.shape[1], "at_least")
        out, kept = (torch.nn.functional.logsigmoid(s * margin) for s in (-1, 1))
        log_t = margin.new_full((len(x), m + 1), -torch.inf)
        log_t[:, 0] = 0.0
        for o, s in zip(out.unbind(1), kept.unbind(1), strict=True):
            moved = _log_add(log_t[:, :-1] + o[:, None], log_t[:, 1:] + s[:, None])
            last = _log_add(moved[:, -1:], log_t[:, -1:] + o[:, None])
            log_t = torch.cat([log_t[:, :1] + s[:, None], moved[:, :-1], last], dim=1)
        return log_t[:, -1]


class OutageCountLoss:
    """Number of users whose SINR is below gamma: a hard count, without a gradient."""

    name, unit = "outage_count", "users"
    worse: Worse = "high"

    def __init__(self, network: CellNetwork) -> None:
        self.network = network

    def __call__(self, x: Tensor) -> Tensor:
        return (self.network.sinr_db(x) < self.network.threshold_db).sum(1).to(x.dtype)


class ShortfallLoss:
    """The m-th largest of gamma - SINR_i [dB]: by how much the m-th worst user misses gamma.

    It is above 0 exactly where at least m users are below gamma, so P(joint outage) is
    P(L > 0), and the ladder of a tail estimator climbs it smoothly; m = 1 is the worst user's.

    Args:
        network: Gives SINR and gamma.
        rank: m.
    Raises:
        CsiAuditError: m is below 1; in a call, above the number of users.
    """

    unit = "dB"
    worse: Worse = "high"

    def __init__(self, network: CellNetwork, *, rank: int = 1) -> None:
        _check_rank("rank", rank)
        self.network, self.rank = network, rank
        self.name = "worst_user_shortfall_db" if rank == 1 else f"shortfall_{rank}_db"

    def __call__(self, x: Tensor) -> Tensor:
        _check_enough(self.rank, x.shape[1], "rank")
        shortfall = self.network.threshold_db - self.network.sinr_db(x)
        return shortfall.topk(self.rank, dim=1).values[:, -1]


@dataclass(frozen=True)
class OutageWeight:
    """l(x) = floor + (1 - floor) L(x)^power of a loss in [0, 1].

    The floor keeps log l finite and q wide: the share of q that l would not favour. For a shortfall
    in dB see `csi_audit.weights.ThresholdWeight`, whose `width` is the softness in dB.

    Attributes:
        loss: L, an expected or joint outage.
        floor: Of l, in (0, 1).
        power: gamma.
    Raises:
        CsiAuditError: the floor or the power is out of its range.
    """

    loss: SoftOutage
    floor: float = 1e-3
    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise CsiAuditError(f"floor must lie in (0, 1), the top of l; got {self.floor}.")
        if not (math.isfinite(self.power) and self.power > 0):
            raise CsiAuditError(f"power must be finite and above 0; got {self.power}.")

    def log_l(self, x: Tensor) -> Tensor:
        rise = self.power * self.loss.log(x) + math.log1p(-self.floor)
        return torch.logaddexp(torch.full_like(rise, math.log(self.floor)), rise)


def _log_add(a: Tensor, b: Tensor) -> Tensor:
    """log(e^a + e^b) whose gradient is 0, not NaN, where both are -inf."""
    none = a.isneginf() & b.isneginf()
    zero = torch.zeros_like(a)
    found = torch.logaddexp(torch.where(none, zero, a), torch.where(none, zero, b))
    return found.masked_fill(none, -torch.inf)


def _check_rank(name: str, m: int) -> None:
    if m < 1:
        raise CsiAuditError(f"{name} must be at least 1 user; got {m}.")


def _check_enough(m: int, n_users: int, name: str) -> None:
    if m > n_users:
        raise CsiAuditError(f"{name} must be at most the {n_users} users of a placement; got {m}.")
