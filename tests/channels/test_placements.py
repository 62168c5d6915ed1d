"""Laws of placements against what is known of them, and the fold at the edges of the square."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from channels.placements import (
    HotspotUsers,
    PlacementLaw,
    StreetUsers,
    UniformUsers,
    fold_into_square,
)
from channels.support import CsiAuditError

ALPHA = 1e-6
LAWS: tuple[PlacementLaw, ...] = (
    UniformUsers(n_users=4),
    HotspotUsers(n_users=4),
    StreetUsers(n_users=4),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def agrees(values: Tensor, truth: float, wrong: float) -> None:
    """Student's test at alpha, sharp enough to tell `wrong`: t SE at most a third of the way."""
    n = len(values)
    half = stats.t.ppf(1 - ALPHA / 2, n - 1) * float(values.std()) / math.sqrt(n)
    assert half <= abs(wrong - truth) / 3, f"too few draws: {half} of {abs(wrong - truth)}"
    assert abs(float(values.mean()) - truth) <= half
    assert abs(float(values.mean()) - wrong) > half


@pytest.mark.property
@pytest.mark.parametrize("law", LAWS)
@given(seed=st.integers(0, 2**31), n=st.integers(0, 50))
def test_draws_are_placements_and_functions_of_the_generator(
    law: PlacementLaw, seed: int, n: int
) -> None:
    x = law.draw(n, generator=seeded(seed))
    assert x.shape == (n, 4, 2)
    assert x.dtype == torch.float32
    assert bool((x.abs() <= 1).all())
    assert torch.equal(x, law.draw(n, generator=seeded(seed)))
    if n:
        assert not torch.equal(x, law.draw(n, generator=seeded(seed + 1)))


@pytest.mark.statistical
@pytest.mark.parametrize("law", LAWS)
def test_users_are_exchangeable_and_the_square_symmetric(law: PlacementLaw) -> None:
    """The first and the last user, left and right, x and y have one law."""
    x = law.draw(20_000, generator=seeded())
    pairs = [(x[:, 0, 0], x[:, 3, 0]), (x[:, 1, 0], -x[:, 1, 0]), (x[:, 2, 0], x[:, 2, 1])]
    for a, b in pairs:
        # two halves, so that the two samples are independent
        assert stats.ks_2samp(a[:10_000].numpy(), b[10_000:].numpy()).pvalue > ALPHA


@pytest.mark.statistical
def test_uniform_users_are_uniform_and_independent() -> None:
    x = UniformUsers(n_users=3).draw(20_000, generator=seeded())
    assert stats.kstest(x.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > ALPHA
    agrees((x[:, 0] - x[:, 1]).square().sum(1), truth=4 / 3, wrong=1.2)


@pytest.mark.statistical
def test_street_users_are_uniform_on_the_streets() -> None:
    """Share on crossings, and the place across a street, are those of a uniform law."""
    law = StreetUsers(n_users=2, streets=3, half_width=0.1)
    x = law.draw(20_000, generator=seeded()).flatten(0, 1)
    assert bool(law.on_street(x).all())
    off = ((x + 1).remainder(2 / 3) - 1 / 3).abs()
    crossing = (off <= 0.1).all(1).double()
    # on a crossing: 0.3^2 of the square; choosing a street first would count crossings twice
    agrees(crossing, truth=0.09 / law.area_share, wrong=2 * 0.09 / (law.area_share + 0.09))
    assert law.area_share == pytest.approx(0.51)
    across = off[(off[:, 0] <= 0.1) & (off[:, 1] > 0.1), 0]
    assert stats.kstest(across.numpy(), stats.uniform(0, 0.1).cdf).pvalue > ALPHA


def integral(f: Callable[[Any, Any], Any], half: float, cells: int = 200) -> float:
    """Of f over the square of that half side, by midpoints."""
    c = half * ((2 * np.arange(cells) + 1) / cells - 1)
    return float(f(*np.meshgrid(c, c)).sum() * (2 * half / cells) ** 2)


@pytest.mark.statistical
def test_hotspot_users_are_a_thomas_process_given_their_number() -> None:
    """Two users of one placement, against the Palm calculus of Poisson centres.

    With P(c) the share of a cluster at c in the square and mu users a cluster, the density of a
    pair is that of independent users plus that of mates, of masses kappa A^2 and B,

        A = int P exp(-mu P) dc,   B = int P^2 exp(-mu P) dc

    and users of different clusters have E[u . v] = 0, mates |m(c)|^2, m the mean of a cut cluster.
    Without the condition on the number the factor exp(-mu P) is missing.
    """
    law = HotspotUsers(n_users=2, hotspots=1.5, spread=0.3)
    kappa, mu, half = 1.5 / 4, law.users_per_hotspot, 1 + 4 * 0.3

    def share(c: Any) -> Any:
        return stats.norm.cdf((1 - c) / 0.3) - stats.norm.cdf((-1 - c) / 0.3)

    def moment(c: Any) -> Any:
        """int over the square of u phi(u - c) du of one coordinate."""
        ends = stats.norm.pdf((-1 - c) / 0.3) - stats.norm.pdf((1 - c) / 0.3)
        return c * share(c) + 0.3 * ends

    def known(mu: float) -> float:
        def kept(x: Any, y: Any) -> Any:
            return np.exp(-mu * share(x) * share(y))

        a = integral(lambda x, y: share(x) * share(y) * kept(x, y), half)
        b = integral(lambda x, y: (share(x) * share(y)) ** 2 * kept(x, y), half)
        dot = integral(
            lambda x, y: ((moment(x) * share(y)) ** 2 + (share(x) * moment(y)) ** 2) * kept(x, y),
            half,
        )
        return dot / (kappa * a**2 + b)

    x = law.draw(30_000, generator=seeded()).double()
    agrees((x[:, 0] * x[:, 1]).sum(1), truth=known(mu), wrong=known(0.0))


@pytest.mark.unit
def test_centres_come_with_the_share_of_each_cluster() -> None:
    law = HotspotUsers(n_users=6)
    centres, share = law.draw_centres(200, generator=seeded())
    assert centres.shape[:2] == share.shape
    assert bool((share.sum(1) > 0).all())
    inside = (centres.abs() < 1 - 4 * law.spread).all(-1) & (share > 0)
    assert torch.allclose(share[inside], torch.ones(1, dtype=torch.float64), atol=2e-4)


@pytest.mark.property
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 50))
def test_fold_is_a_reflection_at_the_edges(seed: int, scale: float) -> None:
    x = scale * torch.randn(5, 2, 2, generator=seeded(seed), dtype=torch.float64)
    folded = fold_into_square(x)
    assert bool((folded.abs() <= 1).all())
    assert torch.equal(fold_into_square(folded), folded)
    assert torch.allclose(fold_into_square(2 - x), folded, atol=1e-9)  # mirrored at 1
    assert torch.allclose(fold_into_square(-x), -folded, atol=1e-9)


@pytest.mark.unit
def test_fold_by_hand() -> None:
    x = torch.tensor([1.2, -1.1, 3.3, -1.0, 1.0, 0.123456789])
    expected = torch.tensor([0.8, -0.9, -0.7, -1.0, 1.0, 0.123456789])
    assert torch.allclose(fold_into_square(x), expected, atol=1e-6)
    assert torch.equal(fold_into_square(x)[3:], x[3:])


@pytest.mark.statistical
def test_a_blurred_uniform_law_folds_back_to_itself() -> None:
    """And clamped it does not: a tenth of it lies on the edge."""
    x = UniformUsers(n_users=1).draw(20_000, generator=seeded())
    blurred = x + 0.2 * torch.randn(x.shape, generator=seeded(1))
    uniform = stats.uniform(-1, 2).cdf
    assert stats.kstest(fold_into_square(blurred).flatten().numpy(), uniform).pvalue > ALPHA
    assert stats.kstest(blurred.clamp(-1, 1).flatten().numpy(), uniform).pvalue < ALPHA


@pytest.mark.unit
def test_what_laws_refuse() -> None:
    for kind in (UniformUsers, HotspotUsers, StreetUsers):
        with pytest.raises(CsiAuditError, match="n_users must be at least 1; got 0"):
            kind(n_users=0)
    with pytest.raises(CsiAuditError, match="hotspots must be finite and above 0; got 0"):
        HotspotUsers(n_users=1, hotspots=0)
    with pytest.raises(CsiAuditError, match="spread must be finite and above 0; got nan"):
        HotspotUsers(n_users=1, spread=math.nan)
    with pytest.raises(CsiAuditError, match="streets must be at least 1; got 0"):
        StreetUsers(n_users=1, streets=0)
    with pytest.raises(CsiAuditError, match=r"half_width must lie in \(0, 0.25\), so that blocks"):
        StreetUsers(n_users=1, half_width=0.25)
