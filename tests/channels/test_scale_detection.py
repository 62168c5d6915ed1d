"""Each scaling of published data is found and undone; ordinary channels lose no offset to it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import (
    ChannelSet,
    Convention,
    CsiAuditError,
    audit_space,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
    unit_power,
)
from channels.convention import Domain
from channels.scale_detection import ScalingFound, detect_scaling

DOMAINS: tuple[Domain, ...] = ("angular-delay", "spatial-frequency")
HALF = 0.5 + 0.5j
Scale = Callable[[Tensor, Tensor], Tensor]  # (unit-power channels, amplitudes) -> stored values


# --- Scalings by hand -----------------------------------------------------------------------------


def numbers(x: Tensor) -> Tensor:
    """(N, n_rx, n_tx, n, 2)"""
    return torch.view_as_real(x)


def by_peak(x: Tensor) -> Tensor:
    return x / numbers(x).abs().amax((1, 2, 3, 4)).view(-1, 1, 1, 1)


def by_modulus(x: Tensor) -> Tensor:
    return x / x.abs().amax((1, 2, 3)).view(-1, 1, 1, 1)


def set_to(x: Tensor, mean: float, deviation: float) -> Tensor:
    """All numbers of the set, re and im alike, brought to a mean and a deviation."""
    stacked = numbers(x).double()
    moved = mean + deviation * (stacked - stacked.mean()) / stacked.std()
    return torch.view_as_complex(moved).to(torch.complex64)


def ranged(x: Tensor) -> Tensor:
    lowest, highest = numbers(x).min(), numbers(x).max()
    return torch.view_as_complex((numbers(x) - lowest) / (highest - lowest))


def ranged_by_user(x: Tensor) -> Tensor:
    lowest, highest = (f(numbers(x), (1, 2, 3, 4), keepdim=True) for f in (torch.amin, torch.amax))
    return torch.view_as_complex((numbers(x) - lowest) / (highest - lowest))


def in_float16(y: Tensor) -> Tensor:
    return torch.view_as_complex(numbers(y).half().float())


# Name -> scaling, kind, offset. Amplitudes: 68 dB apart for "raw", 40 dB where 0.5 is added, for
# beside 0.5 float32 keeps no more of the weakest.
NOMINAL: dict[str, tuple[Scale, str, float]] = {
    "raw gains": (lambda x, a: x * a, "raw", 0.0),
    "unit power": (lambda x, a: x, "unit_power", 0.0),
    "unit norm": (lambda x, a: x / 32, "sample_norm", 0.0),
    "peak": (lambda x, a: by_peak(x), "sample_peak", 0.0),
    "modulus": (lambda x, a: by_modulus(x), "sample_modulus", 0.0),
    "peak about 0.5": (lambda x, a: by_peak(x) / 2 + HALF, "sample_peak", 0.5),
    "modulus about 0.5": (lambda x, a: by_modulus(x) / 2 + HALF, "sample_modulus", 0.5),
    "norm about 0.5": (lambda x, a: x / 80 + HALF, "sample_norm", 0.5),
    "global": (lambda x, a: x * a.clamp_min(1e-2 * a.max()) / a.max() / 80 + HALF, "", 0.5),
}
KINDS = {"global": "global_offset"}


@pytest.fixture(scope="module")
def stored(sample: ChannelSet) -> dict[Domain, Tensor]:
    """The bundled channels, complex, in both domains."""
    x, _ = unit_power(to_complex(audit_space(sample)))
    h, _ = unit_power(to_spatial_frequency(x))
    return {"spatial-frequency": h, "angular-delay": x}


@pytest.fixture(scope="module")
def amplitude(sample: ChannelSet) -> Tensor:
    """Root gains of the bundled channels (N, 1, 1, 1)."""
    return 10 ** (sample.power_db / 20).view(-1, 1, 1, 1)


def nmse_db(values: Tensor, found: ScalingFound, x: Tensor) -> float:
    """Worst user's error of the channels recovered from values."""
    back, _ = unit_power(found.convention.unscale(values))
    return 10 * math.log10(float((back - x).abs().double().square().mean((1, 2, 3)).max()) + 1e-30)


def rounding_db(values: Tensor, offset: float, half_step: float) -> float:
    """Error that storage alone may make of the worst user, with a margin."""
    about = values - complex(offset, offset)
    root = about.abs().double().square().mean((1, 2, 3)).sqrt()
    return 20 * math.log10(float((2 * half_step * (offset + root) / root).max()))


def assert_nominal(
    found: ScalingFound, values: Tensor, x: Tensor, kind: str, offset: float, half_step: float
) -> None:
    assert found.kind == kind, found.evidence
    assert found.convention.offset == offset, found.evidence
    assert not any(found.convention.mean or ())
    assert (found.alternatives, found.offset_error) == ((), 0.0)
    assert nmse_db(values, found, x) < rounding_db(values, offset, half_step)


# --- What is found --------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("n", [12, 500])
@pytest.mark.parametrize("name", sorted(NOMINAL))
@pytest.mark.parametrize("domain", DOMAINS)
def test_nominal_scalings_are_found_and_undone_to_rounding(
    stored: dict[Domain, Tensor], amplitude: Tensor, domain: Domain, name: str, n: int
) -> None:
    scale, kind, offset = NOMINAL[name]
    x = stored[domain][:n]
    values = scale(x, amplitude[:n])
    found = detect_scaling(values, domain)
    assert found.certain, found.evidence
    assert_nominal(found, values, x, kind or KINDS[name], offset, 2**-24)


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_wrong_kind_or_offset_would_be_noticed(
    stored: dict[Domain, Tensor], domain: Domain
) -> None:
    x = stored[domain][:200]
    values = by_peak(x) / 2 + HALF
    found = detect_scaling(values, domain)
    assert_nominal(found, values, x, "sample_peak", 0.5, 2**-24)
    none = replace(found.convention, offset=0.0)
    near = replace(found.convention, offset=0.5001)
    for wrong in (
        replace(found, kind="raw"),
        replace(found, convention=none),
        replace(found, convention=near),
    ):
        with pytest.raises(AssertionError):
            assert_nominal(wrong, values, x, "sample_peak", 0.5, 2**-24)
    assert nmse_db(values, found, x) < rounding_db(values, 0.5, 2**-24)
    for convention in (none, near):  # the channels themselves tell, whatever the fields say
        wrong = replace(found, convention=convention)
        assert nmse_db(values, wrong, x) > rounding_db(values, 0.5, 2**-24) + 20


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(NOMINAL))
@pytest.mark.parametrize("domain", DOMAINS)
def test_nominal_scalings_are_found_in_float16(
    stored: dict[Domain, Tensor], amplitude: Tensor, domain: Domain, name: str
) -> None:
    scale, kind, offset = NOMINAL[name]
    gain = amplitude[:300]
    x = stored[domain][:300]
    # Gains that keep float16 clear of its subnormal numbers.
    values = in_float16(scale(x, gain / gain.max() if name == "global" else 0.03 + 0 * gain))
    if name == "raw gains":
        kind = "sample_norm"
    found = detect_scaling(values, domain)
    assert found.certain
    assert_nominal(found, values, x, kind or KINDS[name], offset, 2**-11)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("convention", "kind"),
    [
        ({"scaling": "sample_peak", "scale": 0.5, "offset": 0.5}, "sample_peak"),
        ({"scaling": "sample_modulus", "scale": 0.5, "offset": 0.5}, "sample_modulus"),
        ({"scaling": "sample_norm"}, "sample_norm"),
        ({"scaling": "sample_peak", "scale": 0.9}, "sample_peak"),
    ],
)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_convention_found_is_the_one_applied(
    sample: ChannelSet, domain: Domain, convention: dict[str, Any], kind: str
) -> None:
    x = audit_space(sample.subset(slice(60)))
    applied = Convention(domain=domain, layout="complex", **convention)
    values, side = applied.to_own(x)
    found = detect_scaling(values, domain)
    assert found.kind == kind
    for field in ("domain", "layout", "scaling", "offset", "event_shape"):
        assert getattr(found.convention, field) == getattr(applied, field)
    assert found.convention.scale == pytest.approx(applied.scale or 1.0, rel=1e-5)
    assert torch.allclose(found.convention.from_own(values, side), x, atol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("n", [1, 2, 10])
@pytest.mark.parametrize("name", sorted(NOMINAL))
@pytest.mark.parametrize("domain", DOMAINS)
def test_few_users_are_certain_only_on_exact_evidence(
    stored: dict[Domain, Tensor], amplitude: Tensor, domain: Domain, name: str, n: int
) -> None:
    scale, _, offset = NOMINAL[name]
    x = stored[domain][:n]
    values = scale(x, amplitude[:n])
    found = detect_scaling(values, domain)
    exact = any(word in found.kind for word in ("peak", "modulus"))
    assert exact or not found.certain
    if found.alternatives:  # the caller asks: no silent mistake
        assert (n, domain, offset) == (1, "spatial-frequency", 0.5) or n == 2
    else:
        assert nmse_db(values, found, x) < rounding_db(values, offset, 2**-24)


# --- Estimated offsets ----------------------------------------------------------------------------


def true_offset(values: Tensor, x: Tensor) -> float:
    """b of values = c x + b (1 + j), by least squares."""
    u, y = numbers(x).double().flatten(), numbers(values).double().flatten()
    slope = ((u - u.mean()) * (y - y.mean())).sum() / (u - u.mean()).square().sum()
    return float(y.mean() - slope * u.mean())


def removed(found: ScalingFound) -> float:
    """Offset taken out, the mean of those of re and im."""
    mean = found.convention.mean
    return found.convention.offset if mean is None else -(mean[0] + mean[-1]) / 2


RETARGETED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean 0.5, deviation 0.05": lambda x: set_to(x, 0.5, 0.05),
    "mean 0.3, deviation 0.1": lambda x: set_to(x, 0.3, 0.1),
    "mean 0.5, deviation 0.5": lambda x: set_to(x, 0.5, 0.5),
    "range [0, 1]": ranged,
}


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(RETARGETED))
@pytest.mark.parametrize("domain", DOMAINS)
def test_retargeted_offsets_are_as_good_as_their_standard_error(
    stored: dict[Domain, Tensor], domain: Domain, name: str
) -> None:
    """Twenty sets of 100 users: errors of the size stated, and small beside a user's power."""
    scores, levels = [], []
    for start in range(0, 2000, 100):
        x = stored[domain][start : start + 100]
        values = RETARGETED[name](x)
        found = detect_scaling(values, domain)
        assert (found.kind, found.certain, found.alternatives) == ("retargeted", True, ())
        assert f"standard error {found.offset_error:.1g}" in found.evidence
        error = removed(found) - true_offset(values, x)
        scores.append(error / found.offset_error)
        deviation = float(numbers(values).std())
        levels.append(found.offset_error / deviation)
        assert nmse_db(values, found, x) < 20 * math.log10(8 * found.offset_error / deviation)
    assert max(map(abs, scores)) < 5
    # Re and im are pooled into one offset, which is better by root 2 than what is stated.
    assert abs(sum(scores)) / math.sqrt(len(scores)) < 3  # no bias of one sign
    assert 0.3 < math.sqrt(sum(score**2 for score in scores) / len(scores)) < 1.5
    assert max(levels) < {"angular-delay": 0.003, "spatial-frequency": 0.006}[domain]


@pytest.mark.unit
def test_medians_of_an_even_number_have_no_side() -> None:
    """The lower of the two middle ones would be too low, by 5 standard errors here."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(3, 2000, 1, 8, 8, 2, generator=generator)
    x = torch.view_as_complex(normal[0] * normal[1] * normal[2])  # sparse: most are near 0
    found = detect_scaling(x / 100 + 0.4 + 0.4j, "angular-delay")
    assert found.kind == "retargeted"
    assert abs(removed(found) - 0.4) < 3 * found.offset_error < 1e-4


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_centre_is_sharper_than_the_mean_of_the_set(
    stored: dict[Domain, Tensor], amplitude: Tensor, domain: Domain
) -> None:
    """A plain mean of all numbers is what retargeting fixed: it knows nothing of the offset."""
    x = stored[domain]
    for channels, gain in ((x, 1.5), (x * amplitude, 8)):
        values = set_to(channels, 0.5, 0.05)
        found = detect_scaling(values, domain)
        mean_error = numbers(values).double().mean((1, 2, 3, 4)).std() / math.sqrt(len(x))
        assert found.offset_error < float(mean_error) / gain
        assert abs(removed(found) - true_offset(values, channels)) < 5 * found.offset_error


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_z_scores_lose_nothing_more(stored: dict[Domain, Tensor], domain: Domain) -> None:
    x = stored[domain]
    values = set_to(x, 0.0, 1.0)
    found = detect_scaling(values, domain)
    assert (found.kind, found.certain, found.alternatives) == ("zscore", True, ())
    assert torch.equal(found.convention.unscale(values), values)
    assert "nothing is put back" in found.evidence
    assert abs(true_offset(values, x)) < 5 * found.offset_error < 0.02
    assert nmse_db(values, found, x) < -40
    assert detect_scaling(in_float16(values), domain).kind == "zscore"


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_z_scores_of_raw_gains_bury_weak_users_in_the_mean(
    stored: dict[Domain, Tensor], amplitude: Tensor, domain: Domain
) -> None:
    """The mean taken out is that of the strongest users, and far above the weakest."""
    x = stored[domain]
    values = set_to(x * amplitude, 0.0, 1.0)
    found = detect_scaling(values, domain)
    assert (found.kind, found.certain) == ("zscore", True)
    assert abs(removed(found) - true_offset(values, x * amplitude)) < 5 * found.offset_error
    assert abs(removed(found)) > 10 * found.offset_error
    left, _ = unit_power(values)
    back, _ = unit_power(found.convention.unscale(values))
    worst = [(u - x).abs().square().mean((1, 2, 3)).quantile(0.99) for u in (left, back)]
    assert float(worst[1]) < 1e-3 < 0.01 < float(worst[0])


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_re_and_im_retargeted_apart(stored: dict[Domain, Tensor], domain: Domain) -> None:
    x = stored[domain][:400]
    parts = numbers(x).double()
    moved = 0.5 + 0.05 * (parts - parts.mean((0, 1, 2, 3))) / parts.std((0, 1, 2, 3))
    values = torch.view_as_complex(moved).to(torch.complex64)
    found = detect_scaling(values, domain)
    assert (found.kind, found.certain) == ("retargeted", True)
    mean = found.convention.mean
    assert mean is not None
    for part, offset in enumerate((-mean[0], -mean[1])):
        truth = float(
            moved.mean() - 0.05 * (parts.mean((0, 1, 2, 3)) / parts.std((0, 1, 2, 3)))[part]
        )
        assert abs(offset - truth) < 5 * found.offset_error
    assert nmse_db(values, found, x) < -35  # re and im have lost their ratio, 1 within 2 %


# --- What is left alone ---------------------------------------------------------------------------


def nothing_removed(found: ScalingFound) -> bool:
    return found.convention.offset == 0 and not any(found.convention.mean or ())


def rician(
    generator: torch.Generator,
    n: int,
    n_tx: int,
    n_sub: int,
    *,
    k_factor: float,
    phase: float | None,
    spread: float,
) -> Tensor:
    """One path within `spread` of broadside and of delay 0, over six anywhere."""
    antenna = torch.arange(n_tx)[:, None]
    sub = torch.arange(n_sub)[None] / n_sub

    def path(u: Tensor, tap: Tensor, angle: Tensor) -> Tensor:
        u, tap, angle = (t.view(-1, 1, 1) for t in (u, tap, angle))
        return torch.polar(
            torch.ones(n, n_tx, n_sub), angle + math.pi * u * antenna - 2 * math.pi * tap * sub
        )

    def any_of(width: float) -> Tensor:
        return width * torch.rand(n, generator=generator)

    angle = any_of(2 * math.pi) if phase is None else torch.full((n,), phase)
    h = math.sqrt(k_factor) * path(spread * (any_of(2) - 1), any_of(spread), angle)
    for _ in range(6):
        h = h + path(any_of(2) - 1, any_of(n_sub / 4), any_of(2 * math.pi)) / math.sqrt(6)
    return (h / math.sqrt(1 + k_factor))[:, None]


@pytest.mark.property
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 2, 3, 10, 100]),
    st.sampled_from([(1, 8), (2, 32), (4, 1), (16, 8), (32, 32)]),
    st.sampled_from([0.0, 1.0, 30.0, 1e4, 1e7]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([None, None, 0.0, 2.0]),
    st.sampled_from(["same", "gains", "tiny", "float16"]),
    st.sampled_from(DOMAINS),
)
def test_ordinary_channels_lose_no_offset(
    seed: int,
    n: int,
    shape: tuple[int, int],
    k_factor: float,
    spread: float,
    phase: float | None,
    scale: str,
    domain: Domain,
) -> None:
    """Line of sight or none, any array, any gains; phases random or all alike."""
    generator = torch.Generator().manual_seed(seed)
    h = rician(generator, n, *shape, k_factor=k_factor, phase=phase, spread=spread)
    h = to_angular_delay(h) if domain == "angular-delay" else h
    if scale == "gains":
        h = h * 10 ** (-3 - 3 * torch.rand(n, 1, 1, 1, generator=generator))
    h = {"tiny": h * 1e-9, "float16": in_float16(h)}.get(scale, h)
    found = detect_scaling(h, domain)
    assert nothing_removed(found), found.evidence
    assert found.alternatives == (), found.evidence


def odd_sets(n: int) -> dict[str, Tensor]:
    """Numbers that are hardly channels."""
    generator = torch.Generator().manual_seed(n)

    def drawn(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (n, 1, 8, 16, 2), generator=generator).float()

    normal = torch.randn(n, 1, 8, 16, 2, generator=generator)
    phase = 6.3 * torch.rand(n, 1, 1, 1, generator=generator)
    real = {
        "integers": drawn(-5, 6),
        "positive integers": drawn(0, 10),
        "bytes": drawn(0, 256),
        "zero or one": drawn(0, 2),
        "positive": normal.abs(),
        "positive, skewed": normal.square(),
        "positive, real": normal.abs() * torch.tensor([1.0, 0.0]),
        "zero": 0 * normal,
        "not a number": math.nan * normal,
        "below float32 squares": 1e-30 * normal,
        "below float64 squares": 1e-200 * normal.double(),
        "above float32 squares": 1e30 * normal,
        "float16 that is nearly 0": (1e-6 * normal).half().float(),
    }
    return {
        **{name: torch.view_as_complex(numbers_) for name, numbers_ in real.items()},
        "constant 0.5": torch.full((n, 1, 8, 16), HALF),
        "constant 1": torch.ones(n, 1, 8, 16, dtype=torch.complex64),
        "constant users": torch.polar(torch.ones_like(phase), phase).repeat(1, 1, 8, 16),
    }


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(odd_sets(1)))
@pytest.mark.parametrize("domain", DOMAINS)
def test_odd_numbers_lose_no_offset(domain: Domain, name: str) -> None:
    for n in (1, 2, 5, 200):
        found = detect_scaling(odd_sets(n)[name], domain)
        assert nothing_removed(found), found.evidence


@pytest.mark.unit
def test_users_without_variation_tell_nothing() -> None:
    found = detect_scaling(odd_sets(50)["constant users"], "spatial-frequency")
    assert (found.kind, found.certain) == ("raw", False)
    assert found.evidence.startswith("No user varies over antennas and bins")


# --- Doubt ----------------------------------------------------------------------------------------


@pytest.mark.unit
def test_two_offsets_that_fit_are_both_named(stored: dict[Domain, Tensor]) -> None:
    """Part of a set brought to mean 0.3: in the spatial-frequency domain, line of sight of one
    phase would look alike."""
    values = set_to(stored["spatial-frequency"], 0.3, 0.1)[:500]
    found = detect_scaling(values, "spatial-frequency")
    assert (found.kind, found.certain) == ("raw", False)
    assert found.alternatives == ("an offset of about 0.3002 in re and 0.2999 in im",)
    assert nothing_removed(found)
    one = detect_scaling(stored["spatial-frequency"][:1] / 20 + HALF, "spatial-frequency")
    assert (one.kind, one.certain, one.alternatives) == ("raw", False, ("an offset of 0.5",))
    assert "look alike: none is removed" in one.evidence


@pytest.mark.unit
def test_part_of_a_retargeted_set_shows_its_offset_in_the_delay_domain(
    stored: dict[Domain, Tensor],
) -> None:
    values = set_to(stored["angular-delay"], 0.3, 0.1)
    offset = true_offset(values, stored["angular-delay"])
    found = detect_scaling(values[:500], "angular-delay")
    assert (found.kind, found.certain, found.alternatives) == ("retargeted", True, ())
    assert abs(found.convention.offset - offset) < 5 * found.offset_error < 5e-4


@pytest.mark.unit
@pytest.mark.parametrize("n", [1, 50])
@pytest.mark.parametrize("domain", DOMAINS)
def test_ranges_of_single_users_cannot_be_undone(
    stored: dict[Domain, Tensor], domain: Domain, n: int
) -> None:
    found = detect_scaling(ranged_by_user(stored[domain][:n]), domain)
    assert (found.kind, found.certain) == ("sample_range", False)
    assert found.evidence.startswith(f"{n} user{'s' * (n > 1)}, each reaching from exactly 0 to")
    assert found.alternatives[0].startswith("an offset of its own for each user")
    assert nothing_removed(found)


@pytest.mark.unit
def test_phases_that_agree_do_not_hide_half_in_the_delay_domain(
    stored: dict[Domain, Tensor],
) -> None:
    """Channels whose first antenna is real and positive, scaled into [0, 1]."""
    h = stored["spatial-frequency"][:500]
    x = to_angular_delay(h / torch.sgn(h[:, :, :1, :1]))
    plain = detect_scaling(x, "angular-delay")
    assert nothing_removed(plain)
    assert plain.alternatives == ()
    found = detect_scaling(x / 80 + HALF, "angular-delay")
    assert found.convention.offset == 0.5
    assert found.alternatives == ()


# --- Words and limits -----------------------------------------------------------------------------


@pytest.mark.unit
def test_evidence_carries_the_figures(stored: dict[Domain, Tensor], amplitude: Tensor) -> None:
    h = stored["spatial-frequency"]
    raw = detect_scaling(h * amplitude, "spatial-frequency").evidence
    spread = float(20 * (amplitude.max() / amplitude.min()).log10())
    assert raw.startswith("The centre of 2000 users is ")
    assert raw.endswith(f"no offset. The users' powers lie within {spread:.1f} dB.")
    peak = detect_scaling(by_peak(h) / 2 + HALF, "spatial-frequency").evidence
    assert peak.startswith("2000 users, all reaching exactly as far from 0.5, with the centre 0.5")
    assert peak.endswith("The largest |re| or |im| of every user is 0.5.")
    unit = detect_scaling(h, "spatial-frequency").evidence
    assert unit.endswith("Every user has mean power 1 and norm 32.")
    retargeted = detect_scaling(set_to(h, 0.5, 0.05), "spatial-frequency").evidence
    assert retargeted.startswith("The mean of all numbers is 0.5 to ")
    assert "Offset estimated as 0.499989, standard error" in retargeted
    assert retargeted.endswith(" dB of a usual user's power.")


@pytest.mark.unit
def test_users_that_storage_rounded_away_are_counted(
    stored: dict[Domain, Tensor], amplitude: Tensor
) -> None:
    x = stored["angular-delay"] * amplitude
    found = detect_scaling(in_float16(x / (2 * numbers(x).abs().max()) + HALF), "angular-delay")
    assert found.convention.offset == 0.5
    assert "Users that vary by a few rounding steps only, their channels lost: 1" in found.evidence


@pytest.mark.unit
@pytest.mark.parametrize("domain", DOMAINS)
def test_several_receive_antennas_and_double_precision(
    stored: dict[Domain, Tensor], domain: Domain
) -> None:
    x = stored[domain][:800].reshape(200, 4, 32, 32).to(torch.complex128)
    values = by_peak(x) / 2 + HALF
    found = detect_scaling(values, domain)
    assert (found.kind, found.certain) == ("sample_peak", True)
    assert found.convention.event_shape == (8, 32, 32)
    back = found.convention.unscale(stack_real(values))
    assert torch.allclose(back, stack_real(by_peak(x)), atol=1e-12)
    apart = torch.view_as_complex(numbers(x) / 20 + torch.tensor([0.5, 0.4]))
    other = detect_scaling(apart, domain)
    assert nothing_removed(other)
    assert not other.certain


@pytest.mark.unit
def test_users_beyond_the_first_2048_are_not_looked_at(stored: dict[Domain, Tensor]) -> None:
    h = stored["spatial-frequency"][:, :, :4, :8]
    values = torch.cat((h, h[:48], h + 1))
    few = detect_scaling(values, "spatial-frequency")
    assert few == detect_scaling(values[:2048], "spatial-frequency")
    assert "The centre of 2048 users" in few.evidence


@pytest.mark.unit
def test_bad_arguments() -> None:
    with pytest.raises(CsiAuditError, match=r"values must be complex \(N, n_rx, n_tx, n_bins\)"):
        detect_scaling(torch.zeros(3, 2, 4, 8), "angular-delay")
    with pytest.raises(CsiAuditError, match=r"no empty axis; got torch.complex64 \(0, 1, 4, 8\)"):
        detect_scaling(torch.zeros(0, 1, 4, 8, dtype=torch.complex64), "angular-delay")
    bad: Any = "delay"
    with pytest.raises(CsiAuditError, match=r"domain must be .* or .*; got 'delay'"):
        detect_scaling(torch.ones(3, 1, 4, 8, dtype=torch.complex64), bad)
    assert set(get_args(Domain)) == set(DOMAINS)
