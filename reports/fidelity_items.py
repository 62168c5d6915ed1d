"""What a comparison of base samples with real channels is made of, as it is stored.

Plain frozen dataclasses; `fidelity_keys.py` says in a sentence what each key holds.
"""

from dataclasses import dataclass

from reports.estimates import Estimate


@dataclass(frozen=True, kw_only=True)
class TailRatio:
    """P_base(L >= tau) / P_real(L >= tau), L >= tau on `share` of the real channels.

    `tau` is in the unit of L, linear for NMSE; None, like the ratio, where the share holds not one
    real channel. `perfect` holds 95 % of the ratios of a perfect model. A `design_effect` of None
    means that channels were counted singly.
    """

    name: str
    label: str
    share: float
    tau: float | None
    n_base: int
    n_real: int
    base_beyond: int
    real_beyond: int
    ratio: Estimate | None
    perfect: tuple[float, float] | None
    design_effect: float | None
    limits: tuple[float, float]
    factor: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class WassersteinItem:
    """Wasserstein-1 distance of one quantity in `unit` ("" for a pure number), beside its floor."""

    name: str
    label: str
    unit: str
    distance: float
    floor_mean: float
    floor_95: float
    spread_real: float


@dataclass(frozen=True, kw_only=True)
class ClassifierTest:
    """How well a classifier tells base samples from real channels; 0.5 is not at all."""

    auc: Estimate
    perfect_95: float
    limit: float
    n_columns: int
    folds: int
    verdict: str


@dataclass(frozen=True, kw_only=True)
class NeighbourCoverage:
    """Share of real channels with a base sample as near as their k-th real neighbour."""

    coverage: Estimate
    perfect_coverage: float
    density: float
    k: int
    n_columns: int


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Distances to the nearest training channel, of base samples and of held-out users.

    `closer` is the share of base samples nearer to a training channel than all but 1 % of the
    held-out users are, over that 1 %.
    """

    n_train: int
    median_base: float
    median_held_out: float
    nearest_base: float
    nearest_held_out: float
    closer: TailRatio
    verdict: str


@dataclass(frozen=True, kw_only=True)
class TrainDistortion:
    """NMSE of one compressor on base samples, on training users and on held-out users.

    A compressor trained on the users that the base learned does better on them; a base that takes
    after them would hide that. KS distances are those of the base samples.
    """

    name: str
    base_db: float
    train_db: float
    held_out_db: float
    ks_train: float
    ks_held_out: float
    n_train: int
    verdict: str


@dataclass(frozen=True, kw_only=True)
class StepDoubling:
    """What twice the steps change, from the same initial noise.

    `ks` is between the two sets of samples; `beyond` and `beyond_doubled` count the samples at or
    beyond the 1 % threshold of the real channels, None for a feature.
    """

    name: str
    label: str
    kind: str
    n: int
    ks: float
    ks_real: float
    ks_real_doubled: float
    beyond: int | None
    beyond_doubled: int | None
    limit: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Mean NMSE [dB] of one compressor under each seed, and the chance of so much spread."""

    name: str
    mean_db: tuple[float, ...]
    n: int
    p_value: float
    verdict: str
