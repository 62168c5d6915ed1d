"""Plain Monte Carlo of a tail: independent draws, counted. The yardstick of every other way."""

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit.losses import Loss
from csi_audit.noise_map import LimitState, NoiseMap
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.tail import (
    BEYOND_NEEDED,
    Budget,
    CurveEstimator,
    Worse,
    check_share,
    check_threshold,
    sign_of,
    turned_back,
)
from reports.estimates import (
    Estimate,
    check_level,
    finite_vector,
    mean_estimate,
    proportion,
    quantile_estimate,
)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CountedTail:
    """The tail as independent draws of the law show it, without any acceleration.

    Attributes:
        values: L of every draw, high is bad, (n,).
        worse: Side of the loss that is bad.
        method: In words.
        evaluations: Spent.
        level: Confidence level of the intervals.
    """

    values: Array
    worse: Worse
    method: str
    evaluations: int
    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)
        finite_vector("values", self.values)

    def exceedance(self, tau: float) -> Estimate:
        """P(L beyond tau) with the interval of Clopper and Pearson."""
        check_threshold(tau)
        k = int((self.values > sign_of(self.worse) * tau).sum())
        found = proportion(k, len(self.values), level=self.level, method=self.method)
        return replace(found, n_evaluations=self.evaluations)

    def quantile(self, p: float) -> Estimate:
        """The loss exceeded with probability p, with the interval of order statistics."""
        check_share(p)
        found = quantile_estimate(self.values, 1 - p, level=self.level)
        return self._turned(found, "" if found.status == "ok" else found.status)

    def cvar(self, p: float) -> Estimate:
        """The mean loss of the worst share p; see `ReplicatedTail.cvar`, each draw a run."""
        check_share(p)
        q = float(np.quantile(self.values, 1 - p))
        each = q + np.maximum(self.values - q, 0.0) / p
        few = int((self.values > q).sum())
        status = f"{few} draws beyond ({BEYOND_NEEDED} needed)" if few < BEYOND_NEEDED else ""
        return self._turned(mean_estimate(each, level=self.level), status)

    def _turned(self, found: Estimate, status: str) -> Estimate:
        return replace(
            found,
            value=sign_of(self.worse) * found.value,
            interval=turned_back(found.interval, self.worse),
            ess=None,
            status=status or found.status,
            method=self.method,
            n_evaluations=self.evaluations,
        )


class PlainMonteCarlo(CurveEstimator):
    """Counts draws beyond the threshold: an exact interval always, few hits where they are rare.

    Args:
        noise_map: G.
        block: Draws that are saved together.
        kept: Failure samples handed back at most.
    """

    name = "plain Monte Carlo"

    def __init__(self, noise_map: NoiseMap, *, block: int = 2000, kept: int = 1000) -> None:
        if block < 1:
            raise CsiAuditError(f"block must be at least 1 draw; got {block}.")
        self.noise_map, self.block, self.kept = noise_map, block, kept

    def tail(
        self,
        loss: Loss,
        *,
        tau: float,
        budget: Budget,
        seed: int,
        name: str = "plain",
        store: BlockStore | None = None,
    ) -> tuple[CountedTail, WeightedSamples]:
        """The whole curve, and draws beyond tau.

        Args:
            loss: L.
            tau: Threshold of the failure samples and of `budget.coef_var`.
            budget: Needs `evaluations` or `seconds`; the number of runs has no meaning here.
            seed: Of every random number, with `name`.
            name: Of the files and of the random streams.
            store: Where blocks are kept; None keeps none.
        Raises:
            CsiAuditError: the budget has no limit, or not enough for one draw; a saved block is
                damaged or of another size.
        """
        if budget.evaluations is None and budget.seconds is None:
            raise CsiAuditError("budget must limit evaluations or seconds: counting has no end.")
        limit, time_is_up = LimitState(self.noise_map, loss), budget.clock()
        left = (
            math.inf if budget.evaluations is None else budget.evaluations // self.noise_map.price
        )
        if left < 1:
            raise CsiAuditError(
                f"budget must allow one draw of {self.noise_map.price} evaluations; got "
                f"{budget.evaluations}."
            )
        parts: list[dict[str, Array]] = []
        beyond = 0
        while left > 0 and not (parts and (time_is_up() or self._precise(parts, beyond, budget))):
            n = int(min(left, self.block))
            stream = seeded_generator(seed, name, len(parts))
            make = partial(self._drawn, limit, limit.sign * tau, n, stream)
            parts.append(make() if store is None else store.get(name, len(parts), make))
            if len(parts[-1]["values"]) != n and store is not None:
                raise CsiAuditError(
                    f"{store.path(name, len(parts) - 1)} holds {len(parts[-1]['values'])} draws "
                    f"where {n} are due. Remove that file to draw the block again."
                )
            beyond += int((parts[-1]["values"] > limit.sign * tau).sum())
            left -= n
        return self._curve(parts, loss), self._failures(parts, beyond, tau)

    def _drawn(
        self, limit: LimitState, t: float, n: int, generator: torch.Generator
    ) -> dict[str, Array]:
        before = limit.evaluations
        x, values = limit.with_samples(limit.noise(n, generator=generator))
        failed = x[values > t][: self.kept]
        spent = np.array(limit.evaluations - before)
        return {"values": values.numpy(), "x": failed.numpy(), "evaluations": spent}

    @staticmethod
    def _precise(parts: list[dict[str, Array]], beyond: int, budget: Budget) -> bool:
        """Whether the coefficient of variation sqrt((1 - p) / (n p)) is small enough."""
        n = sum(len(part["values"]) for part in parts)
        wanted = budget.coef_var
        return wanted is not None and beyond > 0 and (1 / beyond - 1 / n) <= wanted**2

    def _curve(self, parts: list[dict[str, Array]], loss: Loss) -> CountedTail:
        return CountedTail(
            values=np.concatenate([part["values"] for part in parts]),
            worse=loss.worse,
            method=f"{self.name}, {self.noise_map.name}",
            evaluations=sum(int(part["evaluations"]) for part in parts),
        )

    def _failures(self, parts: list[dict[str, Array]], beyond: int, tau: float) -> WeightedSamples:
        x = torch.from_numpy(np.concatenate([part["x"] for part in parts]))[: self.kept]
        n = sum(len(part["values"]) for part in parts)
        return WeightedSamples(
            x=x,
            log_w=torch.zeros(len(x), dtype=torch.float64),
            law="failure",
            chain=f"{self.name}, {self.noise_map.name}",
            tau=tau,
            log_z=math.log(beyond / n) if beyond else None,
            n_evaluations=sum(int(part["evaluations"]) for part in parts),
        )
