"""Fine-tuning on a mix: what is drawn, what is optimised, and that it resumes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor

from channels import audit_space, load_channels
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors import hardening_training, load_compressor
from compressors.hardening_training import (
    HardeningModule,
    HardeningRecipe,
    harden_network,
    mixed_channels,
    zoo_network,
)
from compressors.harness_training import Training
from compressors.loading import NamedCompressor
from compressors.neural import CompressorNetwork
from compressors.plans import Plan
from compressors.weight_mixing import own_nmse

unit = pytest.mark.unit
PLAN = Plan(steps=4, block_steps=2, batch_size=8, learning_rate=1e-4, warmup_steps=1)
RECIPE = HardeningRecipe(plan=PLAN, power=2.0, mix=0.25)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return audit_space(load_channels(sample_path()).subset(slice(0, 60)))


@pytest.fixture(scope="module")
def crnet() -> NamedCompressor:
    return load_compressor("crnet-64")


@unit
def test_mix_holds_every_training_channel_and_its_share(x: Tensor, crnet: NamedCompressor) -> None:
    before, _ = zoo_network(crnet)
    mixed = mixed_channels(x, x[:20], before=before, recipe=RECIPE)
    assert len(mixed) == 80  # 60 / (1 - 0.25)
    assert torch.equal(mixed[:60], x)
    assert torch.equal(mixed, mixed_channels(x, x[:20], before=before, recipe=RECIPE))
    plain = mixed_channels(x, x[:20], before=before, recipe=replace(RECIPE, mix=0.0))
    assert torch.equal(plain, x)


@unit
@pytest.mark.parametrize(("generated", "made"), [(0.0, 0), (0.75, 15), (1.0, 20)])
def test_generated_samples_take_their_share(
    x: Tensor, crnet: NamedCompressor, generated: float, made: int
) -> None:
    before, _ = zoo_network(crnet)
    own = 2 * x[:7]  # told apart by their power
    mixed = mixed_channels(x, own, before=before, recipe=replace(RECIPE, generated=generated))
    power = mixed[60:].square().flatten(1).sum(1) / x[0].numel()
    assert int((power > 1).sum()) == made
    assert len(mixed) == 80


@pytest.mark.statistical
def test_importance_samples_are_drawn_by_their_weight(x: Tensor, crnet: NamedCompressor) -> None:
    """Counts of 4 channels against l = NMSE^4, which the mutant l = 1 fails."""
    before, _ = zoo_network(crnet)
    few = x[:4].repeat(60, 1, 1, 1)
    recipe = replace(RECIPE, mix=0.8, power=4.0, generated=0.0)
    drawn = mixed_channels(few, None, before=before, recipe=recipe)[len(few) :]
    counts = torch.stack([(drawn == one).flatten(1).all(1).sum() for one in x[:4]])
    share = own_nmse(before, x[:4]).pow(4)
    expected = share / share.sum() * len(drawn)
    assert int(counts.sum()) == len(drawn)
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-6
    even = torch.full((4,), len(drawn) / 4)
    assert stats.chisquare(counts.numpy(), even.numpy()).pvalue < 1e-6


@unit
def test_validation_objective_is_the_mix(x: Tensor, crnet: NamedCompressor) -> None:
    network, _ = zoo_network(crnet)
    before, _ = zoo_network(crnet)
    error = own_nmse(before, x)
    mean_weight = float(error.pow(2).mean())
    module = HardeningModule(network, PLAN, before=before, mean_weight=mean_weight, recipe=RECIPE)
    with torch.inference_mode():
        found = module.eval().validation_loss(x, generator=torch.Generator())
    tilted = float(error.pow(3).mean() / error.pow(2).mean())
    assert float(found["loss"].mean()) == pytest.approx(
        0.75 * float(error.mean()) + 0.25 * tilted, rel=1e-4
    )
    assert not any("before" in name for name in module.state_dict())


@unit
@pytest.mark.parametrize(("noise", "shares"), [(1.0, {0.0}), (0.0, {0.8, 0.9, 1.0})])
def test_what_ruins_the_mean_is_taken_back(
    x: Tensor,
    crnet: NamedCompressor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noise: float,
    shares: set[float],
) -> None:
    """A training that heals a noisy copy, and one that makes it worse."""
    worn, trained = noisy(crnet, 0.3), noisy(crnet, noise).state_dict()
    row = {"step": 4.0, "val_loss": 0.5, "val_mean": 0.2}

    def train(*_: object, **__: object) -> Training:
        return Training(weights=trained, curve=[row], seconds=1.0)

    monkeypatch.setattr(hardening_training, "train", train)
    path = harden_network(
        replace(crnet, compressor=worn),
        x[:40],
        x[40:],
        x_q=None,
        folder=tmp_path,
        recipe=RECIPE,
        described={},
    )
    found = load_compressor(str(path))
    assert found.card["trained_share"] in shares
    assert [row[0] for row in found.card["mixing"]] == [i / 10 for i in range(11)]
    before, after = own_nmse(worn, x), own_nmse(zoo_network(found)[0], x)
    assert torch.equal(before, after) == (0.0 in shares)
    assert float(after.mean()) <= float(before.mean())


def noisy(named: NamedCompressor, noise: float) -> CompressorNetwork:
    """The network with noise on its dense layers, in deviations of their weights."""
    network, generator = zoo_network(named)[0], torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            if p.ndim == 2:
                p.add_(noise * p.std() * torch.randn(p.shape, generator=generator))
    return network.eval()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_hardened_compressor_loads_and_a_resume_ends_alike(
    x: Tensor, crnet: NamedCompressor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path) -> Path:
        with torch.random.fork_rng(devices=[]):  # an interrupted fit leaves Lightning's behind
            return harden_network(
                crnet, x[:40], x[40:], x_q=None, folder=folder, recipe=RECIPE,
                described={}, device="cpu", progress=False,
            )  # fmt: skip

    whole = run(tmp_path / "whole")
    found = load_compressor(str(whole))
    assert found.card["hardened_from"]["name"] == "crnet-64"
    assert found.card["curve_columns"][0] == "step"
    assert own_nmse(zoo_network(found)[0], x).isfinite().all()

    def cut(self: HardeningModule, batch: object, index: int) -> Tensor:
        if self.global_step == 3:
            raise KeyboardInterrupt
        return CUT(self, batch, index)  # type: ignore[arg-type]

    CUT = HardeningModule.training_step
    monkeypatch.setattr(HardeningModule, "training_step", cut)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(tmp_path / "cut")
    monkeypatch.setattr(HardeningModule, "training_step", CUT)
    assert run(tmp_path / "cut").read_bytes() == whole.read_bytes()


@unit
def test_what_cannot_be_hardened_is_refused() -> None:
    with pytest.raises(CsiAuditError, match=r"klt-16 cannot be hardened: klt is fitted in one go"):
        zoo_network(load_compressor("klt-16"))

    class Own:
        pass

    foreign = NamedCompressor(
        name="own", spec="own", compressor=Own(), card={}, sha256=None,  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(CsiAuditError, match=r"own cannot be hardened: .*export-failures"):
        zoo_network(foreign)


@unit
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix": 1.0}, r"mix must lie in \[0, 1\); got 1.0"),
        ({"power": 0.0}, r"power must lie in \(0, 8\]; got 0.0"),
        ({"generated": 2.0}, r"generated must lie in \[0, 1\]; got 2.0"),
        ({"most_lost_db": -1.0}, r"most_lost_db must lie in \[0, 3\] dB; got -1.0"),
    ],
)
def test_bad_recipes_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        HardeningRecipe(plan=PLAN, **settings)  # type: ignore[arg-type]
