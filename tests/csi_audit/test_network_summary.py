"""From placements to rows: thresholds, the level that modes are looked for at, laws in words."""

from typing import Any

import numpy as np
import pytest
import torch

from channels.network import CellNetwork
from channels.placement_cards import NetworkCard
from channels.placement_domain import PlacementDomain
from channels.placements import HotspotUsers, StreetUsers, UniformUsers
from csi_audit.deeper import FailureSample
from csi_audit.network_losses import OutageAsked, asked_losses
from csi_audit.network_measuring import law_words, measured_placements, real_placements
from csi_audit.network_settings import LOSS_NAMES, NetworkRunConfig
from csi_audit.network_summary import common_thresholds, levels_of, mode_level, outage_thresholds
from csi_audit.samples import WeightedSamples
from reports.estimates import mean_estimate, proportion
from reports.network_schema import OutageRow
from reports.schema import ImportanceEstimates, Tail, Threshold

pytestmark = pytest.mark.unit

NETWORK = CellNetwork(threshold_db=-1.0)
CARD = NetworkCard(law=UniformUsers(n_users=5), network=NETWORK)


def config(**changes: Any) -> NetworkRunConfig:
    return NetworkRunConfig(**{"network": "default", "law_draws": 400, **changes})


def asked() -> tuple[OutageAsked, ...]:
    return asked_losses(LOSS_NAMES, NETWORK, n_users=5, at_least=3, tau_db=0.0, floor=0.01)


def thresholds(**changes: Any) -> dict[str, tuple[Threshold, ...]]:
    settings = config(**changes)
    real = real_placements(settings, CARD)
    return {
        one.name: outage_thresholds(settings, one, NETWORK, at_least=3, n_users=5, real=real)
        for one in asked()
    }


# --- Thresholds -----------------------------------------------------------------------------------


def test_each_loss_has_thresholds_in_its_own_unit() -> None:
    found = thresholds(tau=(0.25, 0.5), tau_db=(0.0, -2.5), tau_quantile=0.95)
    for name in ("expected_outage", "joint_outage"):
        assert [t.label for t in found[name]] == ["own 95 % quantile", "0.25", "0.5"]
        assert [t.level for t in found[name]] == [None, 0.25, 0.5]
    shortfall = found["shortfall_db"]
    assert [t.label for t in shortfall] == ["own 95 % quantile", "0 dB", "−2.5 dB"]
    assert [t.level for t in shortfall] == [None, 0.0, -2.5]
    assert shortfall[1].origin == "3 or more of the 5 users have an SINR below −1 dB"
    assert shortfall[2].origin == "3 or more of the 5 users have an SINR below 1.5 dB"
    assert "over the 400 draws of the law" in shortfall[0].origin
    labels = [t.label for t in common_thresholds(found)]
    assert labels == ["own 95 % quantile", "0.25", "0.5", "0 dB", "−2.5 dB"]


def test_levels_are_the_quantile_and_the_fixed_ones() -> None:
    tau = thresholds()
    real = real_placements(config(), CARD)
    losses = [one.audited for one in asked()]
    domain = PlacementDomain(n_users=5, network=NETWORK)
    measured = measured_placements(real.x, losses, domain)
    levels = levels_of(tau, measured, 0.99)
    for one in asked():
        own = float(np.quantile(measured.losses[one.name][one.name], 0.99))
        fixed = {"0 dB": 0.0} if one.unit == "dB" else {"0.5": 0.5}
        assert levels[one.name] == {"own 99 % quantile": pytest.approx(own), **fixed}


def test_the_shortfall_says_who_is_in_outage() -> None:
    """L > t exactly where m users lie below gamma - t, as the words of the threshold say."""
    x = UniformUsers(n_users=5).draw(2000, generator=torch.Generator().manual_seed(1))
    losses = [one.audited for one in asked()]
    measured = measured_placements(x, losses, PlacementDomain(n_users=5, network=NETWORK))
    values = measured.losses["shortfall_db"]["shortfall_db"]
    for t in (-2.5, 0.0):
        below = (NETWORK.sinr_db(x) < NETWORK.threshold_db - t).sum(1) >= 3
        assert (values > t).tolist() == below.tolist()
        assert 0 < int(below.sum()) < 2000


# --- The level of the modes -----------------------------------------------------------------------


def row(*tails: tuple[float, int, int]) -> OutageRow:
    """With (level, failing of 10,000 base samples, whether another method found P)."""
    made = []
    for level, failing, rare in tails:
        counted = proportion(failing, 10_000)
        best = mean_estimate([1e-5, 2e-5]) if rare else counted
        made.append(Tail(threshold=f"{level:g}", nmse_db=None, level=level, base=best, real=None,
                         agreement="", counted=counted if rare else None))  # fmt: skip
    estimates = ImportanceEstimates(loss="L", weight="l", e_p=None, e_q=None, tails=tuple(made))
    return OutageRow(name="shortfall_db", label="", unit="dB", worse="high", definition="",
                     losses={}, estimates=estimates)  # fmt: skip


def failures(runs: int, tau: float = 3.0) -> FailureSample:
    n = 20 * runs
    samples = WeightedSamples(
        x=torch.zeros(n, 5, 2), log_w=torch.full((n,), -9.0, dtype=torch.float64), law="failure",
        chain="", tau=tau,
    )  # fmt: skip
    return FailureSample(samples=samples, run=np.repeat(np.arange(runs), 20))


def test_modes_are_looked_for_at_the_rarest_threshold_that_can_be_told() -> None:
    found = row((-1.0, 900, 0), (0.0, 80, 0), (1.0, 19, 0), (3.0, 0, 1))
    assert mode_level(found, None) == 0.0
    assert mode_level(found, failures(11)) == 3.0
    assert mode_level(found, failures(10)) == 0.0  # too few runs to tell modes by
    assert mode_level(found, failures(0)) == 0.0
    assert mode_level(row((1.0, 3, 0), (3.0, 0, 1)), None) == 1.0


def test_effective_runs() -> None:
    sample = failures(4)
    assert sample.effective_runs == pytest.approx(4)
    log_w = sample.samples.log_w.clone()
    log_w[:20] += 1.0
    uneven = FailureSample(
        samples=WeightedSamples(x=sample.samples.x, log_w=log_w, law="failure", chain=""),
        run=sample.run,
    )
    p = np.array([np.e, 1, 1, 1])
    assert uneven.effective_runs == pytest.approx(p.sum() ** 2 / (p**2).sum())
    with pytest.raises(ValueError, match=r"run must be \(80,\); got \(3,\)"):
        FailureSample(samples=sample.samples, run=np.arange(3))


# --- The real side --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (UniformUsers(n_users=5), "uniform"),
        (HotspotUsers(n_users=5), "hotspots, 3 on average, users spread by 0.15 half sides about"),
        (StreetUsers(n_users=5, streets=2), "2 streets along each axis, of half width 0.04 half"),
    ],
)
def test_laws_in_words(law: Any, words: str) -> None:
    assert law_words(law).startswith(words)


def test_draws_of_the_law_are_a_function_of_the_seed() -> None:
    first, again = (real_placements(config(seed=s), CARD).x for s in (3, 3))
    other = real_placements(config(seed=4), CARD).x
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (400, 5, 2)
