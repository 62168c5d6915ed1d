"""Training of the base on a toy array: the loss, its constants, and the file it ends in."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels import (
    ChannelSet,
    Convention,
    CsiAuditError,
    audit_space,
    flip_array,
    load_channels,
    random_symmetry,
    rotate_phase,
    write_channels,
)
from channels.unions import join_channels
from compressors import harness_training
from compressors.plans import Plan
from csi_audit.base import Base, coefficient_variance, load_base, ten_top_deviations
from csi_audit.base_training import (
    FIDELITY_FIGURES,
    VALIDATION_LEVELS,
    BaseModule,
    BaseRecipe,
    _trainable,
    fit_base,
)
from csi_audit.contrast_choice import with_contrast
from csi_audit.denoising_training import NoiseRange
from csi_audit.diffusion import Contrast, PreconditionedDenoiser
from csi_audit.networks import NetworkSpec
from csi_audit.quick_fidelity import FidelityFigures

SMALL = NetworkSpec(options=(("channels", 4), ("hidden", 16), ("depth", 2)))
PLAN = Plan(steps=4, block_steps=2, batch_size=16, warmup_steps=1)


def module_for(x: torch.Tensor, sigma_max: float = 30.0) -> BaseModule:
    return BaseModule(SMALL, coefficient_variance(x), PLAN, NoiseRange(), sigma_max)


@pytest.mark.unit
def test_coefficient_variance_has_the_symmetries_of_the_law(
    draw_users: Callable[..., ChannelSet],
) -> None:
    """Phase and array flip move nothing, and both leave it the mean of what it was."""
    x = audit_space(draw_users(30))
    v = coefficient_variance(x)
    assert v.shape == (2, 8, 8)
    assert torch.equal(v[0], v[1])
    assert torch.allclose(coefficient_variance(flip_array(x)), v, rtol=1e-4)
    assert torch.allclose(coefficient_variance(rotate_phase(x, torch.arange(30.0))), v, rtol=1e-4)
    assert float(v.mean()) == pytest.approx(0.5, rel=1e-4)  # unit power, half a real number each
    both = torch.cat([x, flip_array(x)]).square().mean(0)
    assert torch.allclose(v[0], both.mean(0), rtol=1e-4)
    assert not torch.allclose(v[0], v[0].flip(0), rtol=1e-2)  # beam b is beam -b, not 7 - b
    assert float(coefficient_variance(0 * x).min()) == pytest.approx(1e-6)


@pytest.mark.unit
def test_coefficient_variance_of_two_receive_antennas() -> None:
    x = torch.randn(20, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    x[:, 2:] *= 3
    v = coefficient_variance(x)
    assert torch.equal(v[2], v[3])
    assert float(v[2:].mean() / v[:2].mean()) == pytest.approx(9, rel=0.2)


@pytest.mark.unit
def test_the_loss_of_the_wiener_filter_is_one() -> None:
    """On a law of independent Gaussian coefficients the start is the optimum."""
    generator = torch.Generator().manual_seed(0)
    v = torch.linspace(0.1, 2, 64).view(8, 8)
    x = v.sqrt() * torch.randn(4000, 2, 8, 8, generator=generator)
    # Of a law with the flip symmetry: the filter's variance is its mean with its reflection.
    x = torch.where(torch.rand(4000, 1, 1, 1, generator=generator) < 0.5, flip_array(x), x)
    module = BaseModule(
        SMALL, x.square().mean(0).mean(0).expand(2, 8, 8), PLAN, NoiseRange(), 30.0
    ).requires_grad_(False)
    value = module.validation_loss(x, generator=generator)["loss"]
    assert value.shape == (4000,)
    assert float(value.mean()) == pytest.approx(1.0, abs=0.02)
    # One of the denoiser, and one of the forecast of its error, which begins at 1 for all.
    assert float(module.loss(x, generator=generator)) == pytest.approx(2.0, abs=0.06)
    levels = torch.tensor([float(value[i :: len(VALIDATION_LEVELS)].mean()) for i in range(11)])
    assert float((levels - 1).abs().max()) < 0.05


@pytest.mark.unit
def test_the_module_is_a_function_of_its_seed() -> None:
    x = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = module_for(x).state_dict(), module_for(x).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    draws = [
        float(module_for(x).loss(x, generator=torch.Generator().manual_seed(s)).detach())
        for s in (5, 5, 6)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.unit
def test_the_contrast_of_a_training(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], seeded_torch: None
) -> None:
    """Chosen where there are users enough, else that of the base begun with; none in training."""

    def fitted(name: str, users: int, start: Base | None = None) -> Base:
        recipe = BaseRecipe(network=SMALL, plan=PLAN, contrast_samples=20)
        return fit_base(
            draw_users(100, seed=1), draw_users(users, seed=2), folder=tmp_path / name,
            recipe=recipe, start=start, device="cpu", progress=False,
        )  # fmt: skip

    def contrast(base: Base) -> Contrast | None:
        assert isinstance(base.denoiser, PreconditionedDenoiser)
        return base.denoiser.contrast

    many, few = fitted("many", 200), fitted("few", 199)
    said = many.card["contrast"]
    least = min(said["tried"], key=lambda row: (row[1] + row[2], row[0]))
    assert said["chosen"] == least[0] == getattr(contrast(many), "amount", 0.0)
    assert contrast(few) is None
    assert "contrast" not in few.card
    assert isinstance(few.denoiser, PreconditionedDenoiser)
    kept = Contrast(amount=0.3)
    began = replace(few, denoiser=with_contrast(few.denoiser, 0.3))
    assert contrast(fitted("adapted", 30, began)) == kept
    assert _trainable(began).contrast is None
    assert contrast(began) == kept


@pytest.mark.unit
def test_fit_base_writes_a_base(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], seeded_torch: None
) -> None:
    train, validation = draw_users(100, seed=1), draw_users(30, seed=2)
    recipe = BaseRecipe(network=SMALL, plan=PLAN)
    base = fit_base(
        train, validation, folder=tmp_path / "b", recipe=recipe, device="cpu", progress=False
    )
    x = audit_space(train)
    assert base.event_shape == (2, 8, 8)
    assert base.grid == train.grid
    assert base.sigma_max == round(ten_top_deviations(torch.cat([x, flip_array(x)])), 1)
    assert torch.equal(base.variance, coefficient_variance(x))
    assert base.card["users"] == {"train": 100, "validation": 30}
    assert base.card["data"] == {"name": "set1.h5", "sha256": "1"}
    assert [row[0] for row in base.card["curve"]] == [2, 4]
    assert base.card["samples_seen"] == base.card["selected_step"] * 16
    path = tmp_path / "b" / "base.safetensors"
    assert load_base(path).sha256 == base.sha256
    before = path.read_bytes()
    fit_base(train, validation, folder=tmp_path / "b", recipe=recipe, device="cpu", progress=False)
    assert path.read_bytes() == before
    other = BaseRecipe(network=SMALL, plan=PLAN, noise=NoiseRange(deviation=1.0))
    with pytest.raises(CsiAuditError, match=r"b was begun with another config.* \(noise differ;"):
        fit_base(train, validation, folder=tmp_path / "b", recipe=other, progress=False)


@pytest.mark.unit
def test_a_lazy_set_streams_and_a_resumed_training_ends_byte_equal(
    tmp_path: Path,
    draw_users: Callable[..., ChannelSet],
    seeded_torch: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_channels(tmp_path / "users.h5", draw_users(100, seed=1))
    train, validation = load_channels(tmp_path / "users.h5", lazy=True), draw_users(30, seed=2)

    def fit(name: str) -> bytes:
        fit_base(
            train,
            validation,
            folder=tmp_path / name,
            recipe=BaseRecipe(network=SMALL, plan=PLAN),
            device="cpu",
            progress=False,
        )
        return (tmp_path / name / "base.safetensors").read_bytes()

    whole = fit("whole")
    loss = BaseModule.loss

    def stopped(self: BaseModule, x: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        if self.global_step == 3:
            raise KeyError("interrupted")
        return loss(self, x, generator=generator)

    with monkeypatch.context() as patch:
        patch.setattr(BaseModule, "loss", stopped)
        with pytest.raises(KeyError, match="interrupted"):
            fit("parts")
    assert fit("parts") == whole
    assert load_base(tmp_path / "whole" / "base.safetensors").card["read_as"]["streamed"] is True


@pytest.mark.unit
def test_panels_are_never_mirrored(
    tmp_path: Path,
    draw_users: Callable[..., ChannelSet],
    seeded_torch: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mirror image of a panel is another array: neither drawn nor averaged over."""
    users = draw_users(40, seed=1)
    panel = replace(users, grid=replace(users.grid, panel=(2, 1, 4)))
    flips: list[bool] = []

    def noted(x: torch.Tensor, *, generator: torch.Generator, flip: bool) -> torch.Tensor:
        flips.append(flip)
        return random_symmetry(x, generator=generator, flip=flip)

    monkeypatch.setattr("csi_audit.base_training.random_symmetry", noted)
    for name, channels in (("row", users), ("panel", panel)):
        base = fit_base(
            channels,
            channels,
            folder=tmp_path / name,
            recipe=BaseRecipe(network=SMALL, plan=PLAN),
            device="cpu",
            progress=False,
        )
        x = audit_space(channels)
        assert torch.equal(base.variance, coefficient_variance(x, flip=name == "row"))
        assert base.grid == channels.grid
    assert flips == [True] * 4 + [False] * 4
    assert not torch.equal(audit_space(users), audit_space(panel))


@pytest.mark.unit
def test_the_same_files_read_otherwise_resume_nothing(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], seeded_torch: None
) -> None:
    """Variable, format and convention of each file of a joined set are in the recipe."""
    convention = Convention(scaling="global", scale=2.0, event_shape=(2, 8, 8))

    def joined(**other: Any) -> ChannelSet:
        one, two = draw_users(30, seed=1), draw_users(20, seed=2)
        source = replace(two.source, variable="H", convention=convention)
        return join_channels([one, replace(two, source=replace(source, **other))])

    def fit(channels: ChannelSet) -> Base:
        recipe = BaseRecipe(network=SMALL, plan=PLAN)
        options: dict[str, Any] = {"recipe": recipe, "device": "cpu", "progress": False}
        return fit_base(channels, draw_users(9), folder=tmp_path / "b", **options)

    card = fit(joined()).card
    assert card["data"]["name"] == "set1.h5 + set2.h5"
    assert card["sources"][1] == {
        "name": "set2.h5",
        "sha256": "2",
        "format": "tensor",
        "variable": "H",
        "convention": convention.describe(),
        "users": 20,
    }
    for other in ({"variable": "G"}, {"format": "other"}, {"convention": None}):
        with pytest.raises(CsiAuditError, match=r"another configuration \(sources differ;"):
            fit(joined(**other))


@pytest.mark.unit
def test_devices_are_in_the_recipe_where_they_are_not_one(
    tmp_path: Path,
    draw_users: Callable[..., ChannelSet],
    seeded_torch: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if trained on two devices: the card counts both, a resume on one is refused."""
    train, validation = draw_users(40, seed=1), draw_users(20, seed=2)

    def alone(*args: Any, devices: int, **named: Any) -> Any:
        return harness_training.train(*args, **named)

    monkeypatch.setattr("csi_audit.base_training.train", alone)

    def fit(devices: int, name: str) -> Base:
        recipe = BaseRecipe(network=SMALL, plan=PLAN)
        options: dict[str, Any] = {"recipe": recipe, "device": "cpu", "progress": False}
        return fit_base(train, validation, folder=tmp_path / name, devices=devices, **options)

    one, two = fit(1, "one").card, fit(2, "two").card
    assert "devices" not in one
    assert two["devices"] == 2
    assert one["samples_seen"] == one["selected_step"] * 16
    assert two["samples_seen"] == two["selected_step"] * 32
    for devices, name in ((2, "one"), (1, "two")):
        with pytest.raises(CsiAuditError, match=r"another configuration \(devices differ;"):
            fit(devices, name)


@pytest.mark.unit
def test_only_the_writing_process_writes(
    tmp_path: Path,
    draw_users: Callable[..., ChannelSet],
    seeded_torch: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process finds the file of the first after waiting for it."""
    train, validation = draw_users(40, seed=1), draw_users(20, seed=2)

    def fit() -> Base:
        recipe = BaseRecipe(network=SMALL, plan=PLAN)
        options: dict[str, Any] = {"recipe": recipe, "device": "cpu", "progress": False}
        return fit_base(train, validation, folder=tmp_path / "b", **options)

    path = tmp_path / "b" / "base.safetensors"
    fit()
    written = path.read_bytes()
    path.unlink()

    def wait() -> None:
        assert not path.exists()
        path.write_bytes(written)  # the first process has come

    monkeypatch.setattr("csi_audit.base_training.is_writing_process", lambda: False)
    monkeypatch.setattr("csi_audit.base_training.wait_for_all", wait)
    assert fit().card["users"] == {"train": 40, "validation": 20}


@pytest.mark.property
@given(st.integers(1, 200), st.integers(1, 7))
def test_fidelity_is_looked_at_eight_times_at_most(blocks: int, block_steps: int) -> None:
    """Evenly, the last block among them; after every block of fewer than eight."""
    module = module_for(torch.ones(2, 2, 8, 8))
    module.plan = Plan(steps=blocks * block_steps, block_steps=block_steps)
    module.fidelity = lambda network: FidelityFigures(distortion=0.1, features=0.2)  # type: ignore[assignment]
    steps = range(block_steps, blocks * block_steps + 1, block_steps)
    found = [step // block_steps for step in steps if module.block_figures(module.network, step)]
    assert len(found) == min(blocks, FIDELITY_FIGURES)
    assert found[-1] == blocks
    gaps = [b - a for a, b in pairwise([0, *found])]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.unit
def test_validation_must_have_the_shape_of_the_data(
    tmp_path: Path, draw_users: Callable[..., ChannelSet]
) -> None:
    message = r"validation must hold channels of \(2, 8, 8\); got \(2, 4, 8\)\."
    with pytest.raises(CsiAuditError, match=message):
        fit_base(draw_users(), draw_users(n_tx=4), folder=tmp_path / "b", progress=False)
    assert not (tmp_path / "b").exists()
