"""What is measured on base samples and on real channels to set them side by side, and how they are.

Distortions, features and the columns that a classifier sees; everything statistical is reports'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.domains import (
    onto_sphere,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)
from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
from csi_audit.losses import NmseLoss, in_blocks
from reports.distances import wasserstein_item
from reports.fidelity_items import (
    ClassifierTest,
    NeighbourCoverage,
    StepDoubling,
    TailRatio,
    WassersteinItem,
)
from reports.neighbours import neighbour_coverage
from reports.realism import base_item
from reports.schema import RealismItem
from reports.step_movement import step_doubling
from reports.stratify import feature_display
from reports.tail_ratios import SHARES, tail_ratio
from reports.two_sample import FOLDS, classifier_test

Array = npt.NDArray[np.float64]

CELLS = (16, 8)
"""Groups of beams and of delay taps whose log power a classifier sees."""
NEIGHBOURS = 5


@dataclass(frozen=True, kw_only=True)
class Side:
    """Channels as a comparison sees them.

    Attributes:
        nmse: Distortion by compressor, (N,).
        features: By feature name, (N,).
        columns: What a classifier sees, (N, p).
        drops: Drop of each channel, (N,); None where there are none.
    """

    nmse: Mapping[str, Array]
    features: Mapping[str, Array]
    columns: Array
    drops: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.columns)

    def first(self, n: int) -> "Side":
        """The first n channels."""
        return Side(
            nmse={name: values[:n] for name, values in self.nmse.items()},
            features={name: values[:n] for name, values in self.features.items()},
            columns=self.columns[:n],
            drops=None if self.drops is None else self.drops[:n],
        )


@dataclass(frozen=True, kw_only=True)
class LawFigures:
    """Base samples beside real channels; parts that so few channels do not allow are None."""

    realism: tuple[RealismItem, ...]
    wasserstein: tuple[WassersteinItem, ...]
    tail_ratios: tuple[TailRatio, ...]
    classifier: ClassifierTest | None
    neighbours: NeighbourCoverage | None


def side_of(
    x: Tensor,
    compressors: Sequence[NamedCompressor],
    domain: ChannelDomain,
    *,
    drops: Tensor | None = None,
) -> Side:
    """Measure audit-space channels x (N, *event_shape) of unit power.

    Raises:
        CsiAuditError: a compressor fails on some channel (names it).
    """
    return Side(
        nmse=distortions(x, compressors),
        features=_as_arrays(domain.features(x)),
        columns=classifier_columns(x, domain),
        drops=None if drops is None else drops.numpy(),
    )


def distortions(x: Tensor, compressors: Sequence[NamedCompressor]) -> dict[str, Array]:
    """NMSE of every compressor on x, (N,) each.

    Raises:
        CsiAuditError: a compressor fails on some channel (names it).
    """
    found = {}
    for named in compressors:
        try:
            loss = NmseLoss(in_audit_space(named.compressor))
            found[named.name] = in_blocks(loss, x).numpy()
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {named.name}: {error}") from error
    return found


def classifier_columns(x: Tensor, domain: ChannelDomain) -> Array:
    """All features, and the log power of 16 beam x 8 delay cells, float64 (N, p).

    Both sides are rounded to float16 first, as files store channels: rounding is no difference
    between a law and its model.
    """
    rounded = to_float16(x, domain)
    columns = [*_as_arrays(domain.features(rounded)).values(), *_log_cells(rounded)]
    return np.stack(columns, axis=1)


def to_float16(x: Tensor, domain: ChannelDomain) -> Tensor:
    """Audit-space channels (N, 2 n_rx, n_tx, n_delay) after a float16 in spatial frequency."""
    panel = domain.grid.panel_of(domain.n_tx)
    parts = []
    for part in x.split(1024):
        h = to_spatial_frequency(to_complex(part), panel)
        halves = torch.view_as_real(h).half().float()
        parts.append(stack_real(to_angular_delay(torch.view_as_complex(halves), panel)))
    return onto_sphere(torch.cat(parts))


def _log_cells(x: Tensor) -> list[Array]:
    """log10 of the mean power in each cell of beams x taps, `CELLS` or as many as there are."""
    power = x.square().sum(1, keepdim=True)  # (N, 1, n_tx, n_delay), all receive antennas
    shape = min(CELLS[0], x.shape[2]), min(CELLS[1], x.shape[3])
    cells = torch.nn.functional.adaptive_avg_pool2d(power, shape).flatten(1)
    return list(cells.clamp_min(1e-12).log10().double().numpy().T)


def _as_arrays(features: Mapping[str, Tensor]) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in features.items()}


def law_figures(base: Side, real: Side, *, seed: int) -> LawFigures:
    """Every statistic of base samples beside real channels, each with what chance would show."""
    enough = min(len(base), len(real)) >= 4 * FOLDS
    return LawFigures(
        realism=realism_items(base, real),
        wasserstein=tuple(_wasserstein(base, real, seed)),
        tail_ratios=tuple(
            tail_ratio(name, base.nmse[name], values, share=share, drops=real.drops,
                       label=f"NMSE of {name}")
            for name, values in real.nmse.items()
            for share in SHARES
        ),
        classifier=classifier_test(base.columns, real.columns, drops=real.drops, seed=seed)
        if enough
        else None,
        neighbours=neighbour_coverage(_stacked(base), _stacked(real), k=NEIGHBOURS,
                                      drops=real.drops)
        if enough
        else None,
    )  # fmt: skip


def realism_items(base: Side, real: Side) -> tuple[RealismItem, ...]:
    """KS distances of distortions, then of features, under the limits of a base law."""
    rows = [
        base_item(name, base.nmse[name], values, kind="distortion", label=f"NMSE of {name}")
        for name, values in real.nmse.items()
    ]
    rows += [
        base_item(name, base.features[name], values, kind="feature")
        for name, values in real.features.items()
    ]
    return tuple(rows)


def doubled_steps(base: Side, doubled: Side, real: Side, *, seed: int) -> tuple[StepDoubling, ...]:
    """What twice the steps change; both sides from the same initial noise, in the same order."""
    rows = [
        step_doubling(name, base.nmse[name], doubled.nmse[name], values, kind="distortion",
                      label=f"NMSE of {name}", seed=seed)
        for name, values in real.nmse.items()
    ]  # fmt: skip
    rows += [
        step_doubling(name, base.features[name], doubled.features[name], values, kind="feature",
                      label=feature_display(name)[0], seed=seed)
        for name, values in real.features.items()
    ]  # fmt: skip
    return tuple(rows)


def _wasserstein(base: Side, real: Side, seed: int) -> list[WassersteinItem]:
    """NMSE in dB, features in the unit shown."""
    rows = [
        wasserstein_item(name, _decibels(base.nmse[name]), _decibels(values),
                         label=f"NMSE of {name}", unit="dB", seed=seed)
        for name, values in real.nmse.items()
    ]  # fmt: skip
    for name, values in real.features.items():
        label, unit, scale = feature_display(name)
        pair = scale * base.features[name], scale * values
        rows.append(wasserstein_item(name, *pair, label=label, unit=unit, seed=seed))
    return rows


def _decibels(nmse: Array) -> Array:
    return np.asarray(10 * np.log10(np.maximum(nmse, 1e-30)))


def _stacked(side: Side) -> Array:
    return np.stack(list(side.features.values()), axis=1)
