"""Conventions invert, pass gradients, and refuse what does not fit."""

import math
from typing import Any

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
    crop_delay,
    to_complex,
    to_spatial_frequency,
)

DOMAINS = ["angular-delay", "spatial-frequency"]
LAYOUTS = {
    "planes": (2, 4, 8),
    "planes_transposed": (2, 8, 4),
    "channels_last": (4, 8, 2),
    "flat": (64,),
    "complex": (1, 4, 8),
}
SCALINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "global": {"scale": 0.1, "offset": 0.5},
    "sample_peak": {"scale": 0.5, "offset": 0.5},
    "sample_modulus": {"scale": 0.5, "offset": 0.5},
    "sample_norm": {},
    "zscore": {"mean": (0.2, -0.1), "std": (0.5, 2.0), "scale": 0.3, "offset": 0.1},
}


def draw(seed: int, n: int = 3, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, 2, 4, 8, generator=generator, dtype=torch.float64)


@pytest.mark.property
@given(
    st.sampled_from(DOMAINS),
    st.sampled_from(sorted(SCALINGS)),
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 2**31),
    st.sampled_from([1e-3, 1.0, 30.0]),
    st.sampled_from([None, (1, 2, 2), (2, 1, 2), (2, 2, 1)]),
)
def test_conventions_invert(
    domain: Any, scaling: Any, layout: Any, seed: int, scale: float, panel: Any
) -> None:
    convention = Convention(
        domain=domain,
        scaling=scaling,
        layout=layout,
        event_shape=(2, 4, 8),
        panel=panel,
        **SCALINGS[scaling],
    )
    x = draw(seed, scale=scale)
    y, side = convention.to_own(x)
    assert tuple(y.shape) == (3, *LAYOUTS[layout])
    assert (side is not None) == bool(convention.n_side)
    assert torch.allclose(convention.from_own(y, side), x, atol=1e-9 * scale + 1e-12)


@pytest.mark.property
@given(st.integers(1, 8), st.sampled_from(sorted(LAYOUTS)), st.integers(0, 2**31))
def test_cropped_taps_come_back_as_zero(crop: int, layout: Any, seed: int) -> None:
    convention = Convention(crop_delay=crop, layout=layout, event_shape=(2, 4, 8))
    x = draw(seed)
    back = convention.from_own(*convention.to_own(x))
    assert torch.equal(back[..., :crop], x[..., :crop])
    assert torch.count_nonzero(back[..., crop:]) == 0


@pytest.mark.property
@given(st.sampled_from(["sample_peak", "sample_modulus", "sample_norm"]), st.integers(0, 2**31))
def test_per_sample_scalings_forget_the_scale(scaling: Any, seed: int) -> None:
    convention = Convention(scaling=scaling, event_shape=(2, 4, 8))
    x = draw(seed)
    assert torch.allclose(convention.to_own(x)[0], convention.to_own(7 * x)[0])


@pytest.mark.unit
def test_sample_peak_fills_the_unit_interval() -> None:
    convention = Convention(scaling="sample_peak", scale=0.5, offset=0.5, event_shape=(2, 4, 8))
    x = draw(0)
    y, side = convention.to_own(x)
    assert side is not None
    assert torch.equal(side, x.abs().amax((1, 2, 3)))
    extremes = (y - 0.5).abs().amax((1, 2, 3))
    assert torch.allclose(extremes, torch.full((3,), 0.5, dtype=torch.float64))


@pytest.mark.unit
def test_sample_modulus_puts_the_largest_modulus_at_one() -> None:
    x = draw(0)
    y, side = Convention(scaling="sample_modulus", event_shape=(2, 4, 8)).to_own(x)
    assert side is not None
    assert torch.allclose(side, to_complex(x).abs().amax((1, 2, 3)))
    assert torch.allclose(to_complex(y).abs().amax((1, 2, 3)), torch.ones_like(side))


@pytest.mark.property
@given(
    st.sampled_from(DOMAINS),
    st.sampled_from(sorted(SCALINGS)),
    st.sampled_from([None, 5]),
    st.integers(0, 2**31),
)
def test_unscale_undoes_the_scaling_and_nothing_else(
    domain: Any, scaling: Any, crop: Any, seed: int
) -> None:
    crop = crop if domain == "angular-delay" else None
    where = {"domain": domain, "crop_delay": crop, "event_shape": (2, 4, 8)}
    w, _ = Convention(**where).to_own(draw(seed))
    scaled = Convention(**where, scaling=scaling, **SCALINGS[scaling])
    y, side = scaled.to_own(draw(seed))
    assert torch.allclose(scaled.unscale(y, side), w, atol=1e-12)
    assert torch.allclose(scaled.unscale(to_complex(y), side), to_complex(w), atol=1e-12)
    if side is not None:  # the users' scales lost: equal but for one positive factor a user
        ratio = w / scaled.unscale(y)
        assert torch.allclose(ratio, side.view(-1, 1, 1, 1).expand_as(w), rtol=1e-6)


@pytest.mark.unit
def test_the_panel_belongs_to_the_change_of_domain() -> None:
    x = draw(0)
    own = {"domain": "spatial-frequency", "layout": "complex", "event_shape": (2, 4, 8)}
    for panel in (None, (1, 2, 2), (2, 1, 2)):
        y, _ = Convention(panel=panel, **own).to_own(x)  # type: ignore[arg-type]
        assert torch.equal(y, to_spatial_frequency(to_complex(x), panel))
    assert not torch.allclose(y, to_spatial_frequency(to_complex(x)))


@pytest.mark.unit
def test_fields_may_come_from_json() -> None:
    lists: dict[str, Any] = {"event_shape": [2, 4, 8], "panel": [2, 1, 2], "mean": [0.1]}
    from_json = Convention(scaling="zscore", std=[2.0], **lists)  # type: ignore[arg-type]
    plain = Convention(
        scaling="zscore", std=(2.0,), mean=(0.1,), event_shape=(2, 4, 8), panel=(2, 1, 2)
    )
    assert from_json == plain
    assert hash(from_json) == hash(plain)


@pytest.mark.unit
def test_energy_lost_is_that_of_the_crop(sample: ChannelSet) -> None:
    x = audit_space(sample.subset(slice(50)))
    lost = Convention(crop_delay=8).energy_lost(x)
    assert torch.equal(lost, crop_delay(x, 8)[1])
    kept = Convention(crop_delay=8)
    back = kept.from_own(kept.to_own(x)[0])
    error = (back - x).double().square().sum((1, 2, 3)) / x.double().square().sum((1, 2, 3))
    assert torch.allclose(lost, error, rtol=1e-5)
    assert 0.02 < float(lost.mean()) < 0.2
    for whole in (Convention(), Convention(domain="spatial-frequency")):
        assert torch.equal(whole.energy_lost(x), torch.zeros(50, dtype=torch.float64))
    with pytest.raises(CsiAuditError, match=r"x must be real \(N, 2, 32, 32\) angular-delay"):
        kept.energy_lost(x[..., :8])
    with pytest.raises(CsiAuditError, match="x must have power in every user; 50 of 50"):
        kept.energy_lost(0 * x)


@pytest.mark.unit
def test_sample_norm_is_the_euclidean_norm() -> None:
    y, side = Convention(scaling="sample_norm", event_shape=(2, 4, 8)).to_own(draw(0))
    assert side is not None
    assert torch.allclose(y.square().sum((1, 2, 3)), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(side, draw(0).flatten(1).norm(dim=1))


@pytest.mark.unit
def test_csinet_form_of_real_channels(sample: ChannelSet) -> None:
    """[N, 2, 32, 32] = (re, im) x antenna x delay in [0, 1] about 0.5."""
    x = audit_space(sample.subset(slice(100)))
    convention = Convention.unit_interval(x)
    y, side = convention.to_own(x)
    assert side is None
    assert y.shape == (100, 2, 32, 32)
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert float((y - 0.5).abs().max()) == pytest.approx(0.5)
    assert torch.allclose(convention.from_own(y), x, atol=1e-4)


@pytest.mark.unit
def test_unit_interval_in_another_domain(sample: ChannelSet) -> None:
    x = audit_space(sample.subset(slice(20)))
    convention = Convention.unit_interval(x, domain="spatial-frequency", layout="flat")
    assert float((convention.to_own(x)[0] - 0.5).abs().max()) == pytest.approx(0.5)
    with pytest.raises(CsiAuditError, match=r"x must be finite and not all zero; its peak is 0\.0"):
        Convention.unit_interval(0 * x)


@pytest.mark.unit
@pytest.mark.parametrize("scaling", sorted(SCALINGS))
@pytest.mark.parametrize("domain", DOMAINS)
def test_conventions_pass_exact_gradients(domain: Any, scaling: Any) -> None:
    convention = Convention(
        domain=domain, scaling=scaling, event_shape=(2, 4, 8), **SCALINGS[scaling]
    )

    def distort(x: Tensor) -> Tensor:
        y, side = convention.to_own(x)
        return convention.from_own(y.tanh(), side)

    x = draw(0, n=2).requires_grad_()
    assert torch.autograd.gradcheck(distort, x)


@pytest.mark.unit
@pytest.mark.parametrize("scaling", ["sample_peak", "sample_modulus", "sample_norm"])
def test_the_floor_keeps_the_gradient_of_nothing_finite(scaling: Any) -> None:
    convention = Convention(scaling=scaling, event_shape=(2, 4, 8))
    x = torch.zeros(1, 2, 4, 8, requires_grad=True)
    y, _ = convention.to_own(x)
    (y.sum() + y.square().sum()).backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.unit
def test_describe() -> None:
    assert Convention().describe() == "angular-delay, 32 of 32 taps, unscaled, layout planes"
    peak = Convention(scaling="sample_peak", scale=0.5, offset=0.5, crop_delay=16, layout="flat")
    assert peak.describe() == (
        "angular-delay, 16 of 32 taps, y = 0.5 x / max|x| per user + 0.5, layout flat, "
        "one real number of side information a user"
    )
    other = Convention(domain="spatial-frequency", scaling="global", scale=0.125)
    assert other.describe() == "spatial-frequency, y = 0.125 x, layout planes"
    panel = Convention(panel=(2, 4, 4), scaling="sample_modulus")
    assert panel.describe() == (
        "angular-delay, 32 of 32 taps, panel 2 x 4 x 4, y = x / max modulus of x per user, "
        "layout planes, one real number of side information a user"
    )


@pytest.mark.unit
def test_zscores_are_described_with_their_numbers() -> None:
    one = Convention(scaling="zscore", mean=(-0.125,), std=(2.0,))
    assert one.describe() == (
        "angular-delay, 32 of 32 taps, y = (x - mean) / std, mean -0.125, std 2, layout planes"
    )
    several = Convention(scaling="zscore", mean=(0.1, 0.2), std=(0.3, 0.3))
    assert "mean 0.1, ... (2 values), std 0.3, layout" in several.describe()


@pytest.mark.unit
def test_a_files_form_is_described_without_layout_and_side_information() -> None:
    size = {"event_shape": (4, 8, 16), "layout": "complex"}
    norm = math.sqrt(2 * 8 * 16)
    for options, words in (
        ({}, "unscaled"),
        ({"scaling": "sample_norm", "scale": norm}, "unit power per user"),
        ({"scaling": "sample_norm", "scale": 1.001 * norm}, "unit power per user"),
        ({"scaling": "sample_norm", "scale": 2 * norm}, "y = 32 x / ||x|| per user"),
        ({"scaling": "sample_norm", "scale": norm, "offset": 0.5},
         "y = 16 x / ||x|| per user + 0.5"),
        ({"scaling": "sample_peak", "scale": 0.5, "offset": 0.5},
         "y = 0.5 x / max|x| per user + 0.5"),
    ):  # fmt: skip
        stored = Convention(domain="spatial-frequency", **size, **options)  # type: ignore[arg-type]
        assert stored.describe_stored() == f"spatial-frequency, {words}"
    crop = Convention(**{**size, "crop_delay": 4, "panel": (2, 1, 4)})  # type: ignore[arg-type]
    assert crop.describe_stored() == "angular-delay, 4 of 16 taps, panel 2 x 1 x 4, unscaled"


@pytest.mark.unit
def test_unit_interval_keeps_the_panel() -> None:
    x = torch.randn(20, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    panel = Convention.unit_interval(x, domain="spatial-frequency", panel=(2, 2, 2))
    y, _ = panel.to_own(x)
    assert panel.panel == (2, 2, 2)
    assert float((y - 0.5).abs().max()) == pytest.approx(0.5)
    torch.testing.assert_close(panel.from_own(y), x, rtol=1e-4, atol=1e-5)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": "angular_delay"}, r"domain must be .*'angular_delay'. Did you mean 'angular-"),
        ({"scaling": "xyz"}, r"scaling must be a known one; got 'xyz'. Choose from: global, none"),
        ({"layout": "plane"}, r"layout must be .*Did you mean 'planes'\?"),
        ({"event_shape": (3, 4, 8)}, r"event_shape must be \(2 n_rx, n_tx, n_delay\); got \(3"),
        ({"crop_delay": 33}, r"crop_delay must lie in 1\.\.32; got 33"),
        ({"crop_delay": 8, "domain": "spatial-frequency"}, "crop_delay must be None in the sp"),
        ({"scaling": "global"}, "scale must be given with scaling 'global'"),
        ({"scaling": "global", "scale": -1.0}, r"scale must be positive; got -1\.0"),
        ({"scale": 2.0}, "scale and offset must be left out .* Did you mean scaling 'global'"),
        ({"scaling": "zscore"}, "mean and std must be given with scaling 'zscore', and only"),
        ({"mean": (0.0,), "std": (1.0,)}, "mean and std must be given with scaling 'zscore', and"),
        ({"scaling": "zscore", "mean": (0.0,), "std": (0.0,)}, "std must be positive; got"),
        ({"scaling": "zscore", "mean": (0.0,) * 3, "std": (1.0,)}, "mean must hold 1 or 2 values"),
        ({"panel": (1, 4, 4)}, r"panel must be .* product of n_tx = 32; got \(1, 4, 4\)"),
        ({"panel": (32,)}, r"panel must be \(n_pol, n_rows, n_columns\)"),
        ({"panel": (-1, -4, 8)}, r"panel must be \(n_pol, n_rows, n_columns\)"),
        ({"floor": 0.0}, r"floor must lie in \(0, 0\.5\]; got 0"),
    ],
)
def test_bad_fields(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        Convention(**options)


@pytest.mark.unit
def test_bad_tensors() -> None:
    convention = Convention(scaling="sample_peak")
    with pytest.raises(CsiAuditError, match=r"x must be real \(N, 2, 32, 32\) .*spatial-frequency"):
        convention.to_own(torch.zeros(5, 2, 64, 32))
    y, side = convention.to_own(torch.ones(5, 2, 32, 32))
    assert side is not None
    with pytest.raises(CsiAuditError, match=r"y_hat must be \(N, 2, 32, 32\), layout 'planes'"):
        convention.from_own(y.flatten(1), side)
    with pytest.raises(CsiAuditError, match=r"side must be \(5,\), .*to_own returned; got None"):
        convention.from_own(y)
    with pytest.raises(CsiAuditError, match=r"planes must be real \(N, 2, 32, 32\), or its comp"):
        convention.unscale(y.flatten(1))
    with pytest.raises(CsiAuditError, match=r"planes must be real .* got torch.complex64 \(5, 2,"):
        convention.unscale(y + 0j)
    with pytest.raises(CsiAuditError, match=r"side must be \(5,\), one scale a user; got \(4,\)"):
        convention.unscale(y, side[:4])
