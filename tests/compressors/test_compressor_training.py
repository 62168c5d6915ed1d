"""Training of compressors, end to end on a toy array: start, card, weights file, resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from channels import ChannelSet, CsiAuditError, audit_space
from compressors import CompressorSpec, Klt, in_audit_space, load_compressor, nmse, nmse_db
from compressors.compressor_training import CompressorRecipe, fit_compressor, round_to_half
from compressors.half_precision import rounded_to_half
from compressors.linear_reference import SAME_BITS, SAME_LENGTH, klt_beside
from compressors.plans import Plan
from compressors.quantised_autoencoder import companded
from compressors.quantised_klt import QuantisedKlt

pytestmark = pytest.mark.usefixtures("seeded_torch")
PLAN = Plan(steps=4, block_steps=2, batch_size=16, learning_rate=1e-4, warmup_steps=1)


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["csinet", "crnet", "clnet", "acrnet", "transnet"])
def test_a_net_starts_at_the_klt_and_is_written_with_its_card(
    arch: str, tmp_path: Path, draw_channels: Callable[..., ChannelSet]
) -> None:
    train, validation = draw_channels(300, seed=1), draw_channels(60, seed=2)
    recipe = CompressorRecipe(arch=arch, ratio=8, plan=PLAN)
    path = fit_compressor(
        train, validation, folder=tmp_path / "net", recipe=recipe, device="cpu", progress=False
    )
    loaded = load_compressor(str(path))
    card, x = loaded.card, audit_space(validation)
    assert (loaded.name, loaded.compressor.n_code) == ("net", 16)
    error = nmse_db(nmse(x, in_audit_space(loaded.compressor)(x)).mean())
    assert card["validation_nmse_db"] == pytest.approx(float(error), abs=1e-3)
    klt = Klt(16, n_tx=8, n_delay=8).fit(audit_space(train))
    linear = float(nmse_db(nmse(x, klt(x)).mean()))
    assert card["klt_same_code_length_nmse_db"] == pytest.approx(linear, abs=1e-3)
    assert card["validation_nmse_db"] == pytest.approx(linear, abs=0.3)  # four small steps on
    assert card["beats_klt"] == (card["validation_nmse_db"] < linear - 0.01)
    assert [row[0] for row in card["curve"]] == [32, 64]  # sample passes
    assert card["users"] == {"train": 300, "validation": 60}
    assert card["data"] == {"name": "set1.h5", "sha256": "1"}
    assert (card["bits"], abs(card["float16_moves_nmse_by_db"]) < 0.01) == (None, True)
    stored = load_file(path)
    assert {w.dtype for w in stored.values() if w.is_floating_point()} == {torch.float16}
    beside = json.loads(path.with_suffix(".card.json").read_text())
    assert beside.pop("training_seconds") >= 0
    assert beside.pop("device") == "cpu"
    assert beside == card  # what no two trainings share is not in the weights file
    before = path.read_bytes()
    again = fit_compressor(
        train, validation, folder=tmp_path / "net", recipe=recipe, device="cpu", progress=False
    )
    assert again.read_bytes() == before


@pytest.mark.unit
@pytest.mark.parametrize("levels", [4, 64])
def test_a_quantised_net_starts_at_the_quantised_klt(
    levels: int, tmp_path: Path, draw_channels: Callable[..., ChannelSet]
) -> None:
    """Its levels are laid over the code numbers of the training channels."""
    train, validation = draw_channels(300, seed=1), draw_channels(60, seed=2)
    recipe = CompressorRecipe(arch="conv-fsq", ratio=8, plan=PLAN, options={"levels": levels})
    path = fit_compressor(train, validation, folder=tmp_path, recipe=recipe, progress=False)
    card, x = load_compressor(str(path)).card, audit_space(validation)
    klt = Klt(16, n_tx=8, n_delay=8).fit(audit_space(train))
    deviation = klt.encode(audit_space(train)).square().mean(0).sqrt()
    quantised = klt.decode(deviation * companded(klt.encode(x) / deviation, levels))
    start = float(nmse_db(nmse(x, quantised).mean()))
    assert card["validation_nmse_db"] == pytest.approx(start, abs=0.3)  # four small steps on
    assert card["compressor"]["options"] == {"levels": levels}
    linear = QuantisedKlt.for_bits(audit_space(train), card["bits"])(x)
    level = float(nmse_db(nmse(x, linear).mean()))
    assert card[SAME_BITS] == pytest.approx(level, abs=1e-3)
    assert SAME_LENGTH not in card
    assert card["beats_klt"] == (card["validation_nmse_db"] < level - 0.01)


@pytest.mark.unit
def test_the_klt_is_fitted_in_one_go(
    tmp_path: Path, draw_channels: Callable[..., ChannelSet]
) -> None:
    train, validation = draw_channels(300, seed=1), draw_channels(60, seed=2)
    recipe = CompressorRecipe(arch="klt", ratio=8)
    path = fit_compressor(train, validation, folder=tmp_path / "new" / "klt", recipe=recipe)
    loaded = load_compressor(str(path))
    x = audit_space(validation)
    exact = Klt(16, n_tx=8, n_delay=8).fit(audit_space(train))(x)
    assert torch.allclose(in_audit_space(loaded.compressor)(x), exact, atol=1e-2)  # float16
    assert loaded.card["beats_klt"] is False
    assert not {"plan", "augment", "curve"} & set(loaded.card)


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["klt-quantised", "top-taps", "beam-codebook"])
def test_a_quantised_code_is_compared_in_bits(
    arch: str, tmp_path: Path, draw_channels: Callable[..., ChannelSet]
) -> None:
    """With the quantised KLT of its budget; that one itself with none."""
    train, validation = draw_channels(300, seed=1), draw_channels(60, seed=2)
    recipe = CompressorRecipe(arch=arch, bits=60)
    path = fit_compressor(train, validation, folder=tmp_path / "net", recipe=recipe)
    loaded, x = load_compressor(str(path)), audit_space(validation)
    card = loaded.card
    assert SAME_LENGTH not in card
    stored = load_file(path)
    assert {w.dtype for w in stored.values() if w.is_floating_point()} <= {torch.float16}
    if arch == "klt-quantised":
        assert (klt_beside(card), "beats_klt" in card) == (None, False)
        assert isinstance(loaded.compressor, QuantisedKlt)
        assert stored["levels"].shape[1] == 2 ** int(stored["depth"].max()) < 256
        return
    linear = QuantisedKlt.for_bits(audit_space(train), 60)(x)
    level = float(nmse_db(nmse(x, linear).mean()))
    beside = klt_beside(card)
    assert beside is not None
    assert beside[0] == "quantised KLT of equal bits"
    assert beside[1] == card[SAME_BITS] == pytest.approx(level, abs=1e-3)
    assert card["beats_klt"] == (card["validation_nmse_db"] < level - 0.01)


@pytest.mark.unit
def test_infinities_are_no_numbers_too_large(draw_x: Callable[..., torch.Tensor]) -> None:
    weights = {"table": torch.tensor([0.1, torch.inf]), "depth": torch.tensor([70_000])}
    rounded = rounded_to_half(weights)
    assert rounded is not None
    assert rounded["table"].tolist() == [float(torch.tensor(0.1).half()), torch.inf]
    assert torch.equal(rounded["depth"], weights["depth"])
    assert rounded_to_half({"w": torch.tensor([1e5])}) is None
    network = QuantisedKlt.for_bits(draw_x(400), 40)
    assert bool(network.levels.isinf().any())  # tables of unequal length
    assert round_to_half(network, draw_x(400)) is not None


@pytest.mark.unit
def test_what_cannot_be_trained(tmp_path: Path, draw_channels: Callable[..., ChannelSet]) -> None:
    channels = draw_channels()
    cases = {
        ("crnt", 8): r"arch must be a known architecture; got 'crnt'\. Did you mean 'crnet'\?",
        ("crnet", 7): r"ratio must divide the 128 real numbers of a channel; got 7\.",
    }
    for (arch, ratio), message in cases.items():
        recipe = CompressorRecipe(arch=arch, ratio=ratio, plan=PLAN)
        with pytest.raises(CsiAuditError, match=message):
            fit_compressor(channels, channels, folder=tmp_path / "a", recipe=recipe)
    assert not (tmp_path / "a").exists()


@pytest.mark.unit
def test_weights_that_float16_cannot_hold_stay_as_they_are(
    draw_x: Callable[..., torch.Tensor],
) -> None:
    """Rounding stops where it costs distortion, or leaves the range of float16."""
    x = draw_x(64)
    network = CompressorSpec.for_ratio("klt", 8, event_shape=(2, 8, 8)).build()
    assert isinstance(network, Klt)
    exact = network.fit(x).basis.clone()
    moved = round_to_half(network, x)
    assert moved == pytest.approx(0, abs=1e-3)
    assert torch.equal(network.basis, exact.half().float())
    for factor in (1e-7, 1e6):  # below the smallest number, above the largest
        scaled = ScaledKlt(network, factor)
        assert round_to_half(scaled, x) is None
        assert torch.equal(scaled.basis, factor * network.basis)


class ScaledKlt(Klt):
    """A KLT whose basis is stored in another unit."""

    def __init__(self, klt: Klt, factor: float) -> None:
        super().__init__(klt.n_code, n_tx=8, n_delay=8, convention=klt.convention)
        self.factor = factor
        self.basis.copy_(factor * klt.basis)

    def encode(self, y: torch.Tensor) -> torch.Tensor:
        return super().encode(y) / self.factor

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return super().decode(z) / self.factor
