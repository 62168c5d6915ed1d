"""What a preflight finds: each flaw by the check that is meant for it, and by no other."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels import Convention, Grid, audit_space, load_channels, stack_real, to_complex
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors import bundled_compressors, check_compressor, load_compressor
from compressors.preflight import check_gradient, run_preflight
from compressors.preflight_checks import CHECKS
from compressors.verdicts import Preflight

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)
Draw = Callable[..., Tensor]


class FirstTaps:
    """Keeps the first four delay taps: everything in order."""

    n_code = 64
    convention = Convention(event_shape=SHAPE)

    def encode(self, y: Tensor) -> Tensor:
        return y[..., :4].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return F.pad(z.unflatten(1, (2, 8, 4)), (0, 4))

    def bits(self, z: Tensor) -> Any:
        return None


# --- Flaws ----------------------------------------------------------------------------------------


class Fails(FirstTaps):
    def encode(self, y: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes")


class NoTensor(FirstTaps):
    def encode(self, y: Tensor) -> Any:
        return (super().encode(y),)


class NanCode(FirstTaps):
    """The decoder hides what the encoder spoils."""

    def encode(self, y: Tensor) -> Tensor:
        return super().encode(y).sqrt()

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.nan_to_num().square())


class NanOutput(FirstTaps):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).log()


class DropoutLeftOn(nn.Module, FirstTaps):
    """A net that nobody put into evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def encode(self, y: Tensor) -> Tensor:
        dropped: Tensor = self.drop(FirstTaps.encode(self, y))
        return dropped


class HarmlessTraining(FirstTaps):
    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Flatten())

    def encode(self, y: Tensor) -> Tensor:
        flat: Tensor = self.net(y[..., :4])
        return flat


class TieFlips(FirstTaps):
    """Quantised; of one channel a code number at a rounding tie goes the other way alone."""

    def encode(self, y: Tensor) -> Tensor:
        z = super().encode(y).round()
        if len(y) == 1 and torch.equal(y[0], self.at_a_tie):
            z[0, 0] += 1.0
        return z

    def bits(self, z: Tensor) -> Any:
        return torch.full((len(z),), 64 * 4)

    at_a_tie = torch.zeros(1)


class AcrossTheBatch(FirstTaps):
    """The public TransNet's way: tokens (batch, 32, 64) given to a layer that takes (token, batch,
    width), so that the users of a batch attend to each other."""

    n_code = 512
    convention = Convention()

    def __init__(self) -> None:
        self.layer = nn.TransformerEncoderLayer(64, 2, 32, batch_first=False).eval()

    def encode(self, y: Tensor) -> Tensor:
        tokens: Tensor = self.layer(y.reshape(-1, 32, 64))
        return tokens.reshape(-1, 2048)[:, ::4]

    def decode(self, z: Tensor) -> Tensor:
        return z.repeat_interleave(4, dim=1).reshape(-1, 2, 32, 32)


class UnitInterval(FirstTaps):
    """Ends in a sigmoid, so expects [0, 1], but is given channels as they are."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).sigmoid()


class ComplexNet(FirstTaps):
    """Computes with complex numbers; its convention hands it stacked real ones."""

    def encode(self, y: Tensor) -> Tensor:
        return torch.view_as_real(y)[..., :4, :].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return torch.view_as_complex(F.pad(z.unflatten(1, (1, 8, 4, 2)), (0, 0, 0, 4)))


class RealNet(FirstTaps):
    """Computes with stacked real numbers; its convention hands it complex ones."""

    convention = Convention(event_shape=SHAPE, layout="complex")


class RealPartAlone(RealNet):
    n_code = 32

    def encode(self, y: Tensor) -> Tensor:
        return y.real[..., :4].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return torch.complex(F.pad(z.unflatten(1, (1, 8, 4)), (0, 4)), torch.zeros(()))


class DoublePrecision(FirstTaps):
    def __init__(self) -> None:
        self.net = nn.Linear(64, 64).double().eval()

    def encode(self, y: Tensor) -> Tensor:
        z: Tensor = self.net(super().encode(y))
        return z


class HalfPrecision(FirstTaps):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).bfloat16()


class IgnoresItsCode(FirstTaps):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(torch.linspace(-1, 1, 64).expand(len(z), 64))


class OneCodeword(FirstTaps):
    def encode(self, y: Tensor) -> Tensor:
        return torch.linspace(-1, 1, 64).repeat(len(y), 1)


class Peeks(FirstTaps):
    """decode knows the channel from encode, and takes no more than a part from the code."""

    seen = torch.zeros(0)

    def encode(self, y: Tensor) -> Tensor:
        self.seen = y
        return super().encode(y)

    def decode(self, z: Tensor) -> Tensor:
        return 0.5 * (super().decode(z) + self.seen)


class Rounds(FirstTaps):
    def encode(self, y: Tensor) -> Tensor:
        return (4 * super().encode(y)).round() / 4


class NoSlopeNearZero(FirstTaps):
    """Fine on channels, NaN on the weak means that guidance passes through."""

    def encode(self, y: Tensor) -> Tensor:
        z = super().encode(y)
        return z * (z.square().sum(1, keepdim=True) - 1).sqrt()


class FourBits(FirstTaps):
    """Rounds to 16 levels and says so; the subclasses say something else."""

    convention = Convention(event_shape=SHAPE, scaling="sample_peak")
    said: Any = 256.0

    def encode(self, y: Tensor) -> Tensor:
        return (7 * super().encode(y)).round().clamp(-8, 7) / 7

    def bits(self, z: Tensor) -> Any:
        return torch.full((len(z),), self.said) if isinstance(self.said, float) else self.said


class BitsAlone(FourBits):
    """Says four bits a number and feeds back floats."""

    def encode(self, y: Tensor) -> Tensor:
        return FirstTaps.encode(self, y)


class OneBitForAll(FourBits):
    """Rounds, so that values occur twice, but 1 bit names two codewords, not one a user."""

    said = 1.0


class NoLength(FirstTaps):
    n_code: Any = None


class NoBits(FourBits):
    said = 0.0


class BitsRaise(FourBits):
    def bits(self, z: Tensor) -> Any:
        raise KeyError("table")


@dataclass(frozen=True)
class Flaw:
    """A compressor, what its preflight must find besides passes, and the words of the first."""

    made: type[FirstTaps]
    found: dict[str, str]
    words: str


FLAWS = [
    Flaw(Fails, {"runs": "fail"}, r"fails on channels \(24, 2, 8, 8\): RuntimeError \(mat1 and"),
    Flaw(NoTensor, {"runs": "fail"}, r"TypeError \(encode must return a tensor; got tuple\)"),
    Flaw(NanCode, {"finite": "fail"}, r"^compressor mine returns NaN or infinity\. Check its sca"),
    Flaw(NanOutput, {"finite": "fail"}, r"^compressor mine returns NaN or infinity\. Check its s"),
    Flaw(
        DropoutLeftOn,
        {"evaluation mode": "warn", "determinism": "fail"},
        r"2 of 2 modules are in training mode\. Call eval\(\)",
    ),
    Flaw(HarmlessTraining, {"evaluation mode": "warn"}, "2 of 2 modules are in training mode"),
    Flaw(
        AcrossTheBatch,
        {"batch independence": "fail", "distortion": "warn"},
        r"Does it attend or normalise over the batch\? Torch's layers take \(tokens, batch, width",
    ),
    Flaw(
        UnitInterval,
        {"output range": "fail", "distortion": "warn"},
        r"answers between 0\.0\d* and 0\.9\d*, but \d+ % of its input lies below\. Does it expect "
        r"\[0, 1\]\? Set scaling 'sample_peak', scale 0\.5, offset 0\.5",
    ),
    Flaw(
        ComplexNet,
        {"runs": "fail"},
        r"RuntimeError \(.*view_as_real.*It runs with layout 'complex': set Convention\(layout=",
    ),
    Flaw(
        RealNet,
        {"runs": "fail"},
        r"RuntimeError \(unflatten: .* It runs with layout 'planes': set Convention\(layout='pla",
    ),
    Flaw(
        RealPartAlone,
        {"real and imaginary": "fail"},
        r"mine returns no imaginary part\. Does it take complex numbers for real ones\? Check layo",
    ),
    Flaw(
        DoublePrecision,
        {"runs": "fail"},
        r"Its weights are torch\.float64 and the channels torch\.float32: convert the weights\.",
    ),
    Flaw(HalfPrecision, {"precision": "warn"}, r"answers in torch\.bfloat16: rounding counts as"),
    Flaw(
        IgnoresItsCode,
        {"use of the code": "fail", "distortion": "warn"},
        "mine reconstructs the same when codewords are exchanged between users: decode ignores its",
    ),
    Flaw(
        OneCodeword,
        {"use of the code": "fail", "distortion": "warn"},
        "codewords are exchanged between users: encode gives every channel the same codeword",
    ),
    Flaw(
        Peeks,
        {"use of the code": "fail"},
        r"mine does not reconstruct from its code alone.*Does decode keep something of encode\?",
    ),
    Flaw(
        Rounds,
        {"gradient": "warn"},
        r"no usable gradient, which guided sampling \(issgm\) follows\. Does it round, detach",
    ),
    Flaw(
        NoSlopeNearZero, {"gradient": "warn", "distortion": "warn"}, "mine has no usable gradient"
    ),
    Flaw(
        BitsAlone,
        {"bits": "warn"},
        "says 4 bits a code number, yet hardly any value occurs twice: the code looks unquantised",
    ),
    Flaw(
        OneBitForAll,
        {"bits": "fail"},
        r"^compressor mine says at most 1 bits a codeword, but sends 24 different ones for 24 chan",
    ),
    Flaw(
        NoLength,
        {"code length": "fail"},
        r"mine says n_code = None, but encode returns \(24, 64\) for 24 channels: 64 real numbers",
    ),
    Flaw(
        NoBits, {"bits": "fail"}, r"mine: bits must be positive and finite; got 0\.0 to 0\.0\. Ret"
    ),
    Flaw(BitsRaise, {"bits": "fail"}, r"mine fails on channels .*: KeyError \('table'\)"),
]


def flawed(made: type[FirstTaps], draw_x: Draw) -> tuple[FirstTaps, Tensor]:
    """The compressor, and channels of its shape."""
    compressor = made()
    return compressor, draw_x(24, shape=compressor.convention.event_shape)


def besides_passes(found: Preflight) -> dict[str, str]:
    """Checks that fail or warn."""
    return {v.check: v.outcome for v in found.verdicts if v.outcome in ("fail", "warn")}


@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: flaw.made.__name__)
def test_a_flaw_is_found_by_its_check(flaw: Flaw, draw_x: Draw) -> None:
    found = run_preflight(*flawed(flaw.made, draw_x), name="mine")
    assert besides_passes(found) == flaw.found
    (first, *_) = (v for v in found.verdicts if v.outcome in ("fail", "warn"))
    assert re.search(flaw.words, first.words), first.words
    assert found.meaningless == ("fail" in flaw.found.values())
    assert [v.check for v in found.verdicts] == [check.name for check in CHECKS]


@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: flaw.made.__name__)
def test_an_audit_refuses_in_the_same_words(flaw: Flaw, draw_x: Draw) -> None:
    compressor, x = flawed(flaw.made, draw_x)
    found = run_preflight(compressor, x, name="mine")
    failing = [v for v in found.verdicts if v.outcome == "fail"]
    if failing:
        with pytest.raises(CsiAuditError, match=f"^{re.escape(failing[0].words)}$"):
            check_compressor(compressor, x, name="mine")
        return
    check_compressor(compressor, x, name="mine")
    if found.verdict("gradient").outcome == "warn":
        with pytest.raises(CsiAuditError, match=re.escape(found.verdict("gradient").words)):
            check_gradient(compressor, x, name="mine")


@pytest.mark.parametrize("made", [FirstTaps, FourBits])
def test_a_sound_compressor_passes_everything(made: type[FirstTaps], draw_x: Draw) -> None:
    found = run_preflight(*flawed(made, draw_x), name="mine")
    assert besides_passes(found) == {}
    assert found.counts["pass"] >= 15
    bits = found.verdict("bits")
    if made is FourBits:
        assert (bits.outcome, bits.measured) == ("pass", 256)
        assert bits.words == (
            "4 bits a code number. The scale of each user goes to decode uncounted."
        )
        assert found.verdict("input range").measured == 0
        assert found.verdict("input power").outcome == "pass"
    else:
        assert bits.words == "not quantised: only code numbers are counted."


@pytest.mark.parametrize("spec", sorted(bundled_compressors()))
def test_bundled_compressors_pass_everything(spec: str) -> None:
    channels = load_channels(sample_path()).subset(slice(0, 2000, 100))
    named = load_compressor(spec)
    found = run_preflight(named.compressor, audit_space(channels), name=spec, grid=channels.grid)
    assert besides_passes(found) == {}
    assert found.counts["pass"] >= 16
    level = named.card["validation_nmse_db"]
    assert found.verdict("distortion").measured == pytest.approx(level, abs=1.5)


def test_what_stands_on_a_failure_is_not_judged(draw_x: Draw) -> None:
    found = run_preflight(Fails(), draw_x(24), name="mine")
    others = [v for v in found.verdicts if v.check not in ("runs", "evaluation mode")]
    assert {v.outcome for v in others} == {"not applicable"}
    assert {v.words for v in others} == {"nothing to measure: runs failed"}


def test_few_channels_leave_some_checks_out(draw_x: Draw) -> None:
    one = run_preflight(FirstTaps(), draw_x(1), name="mine")
    assert besides_passes(one) == {}
    for check in ("batch independence", "use of the code", "output saturation"):
        assert one.verdict(check).outcome == "not applicable"
    with pytest.raises(CsiAuditError, match=r"x must hold at least one channel; got \(0, 2, 8, 8"):
        run_preflight(FirstTaps(), draw_x(2)[:0], name="mine")
    with pytest.raises(CsiAuditError, match=r"x must hold at least one channel; got \(0, 2, 8, 8"):
        check_compressor(FirstTaps(), draw_x(2)[:0], name="mine")


def test_the_array_of_the_data_is_compared(draw_x: Draw) -> None:
    class Spatial(FirstTaps):
        convention = Convention(domain="spatial-frequency", event_shape=SHAPE)

    def outcome(compressor: FirstTaps, grid: Grid | None) -> str:
        found = run_preflight(compressor, draw_x(24), name="mine", grid=grid)
        return found.verdict("array").outcome

    row = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8)
    panel = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8, panel=(2, 2, 2))
    assert [outcome(Spatial(), grid) for grid in (None, row, panel)] == [
        "not applicable",
        "pass",
        "fail",
    ]
    assert outcome(FirstTaps(), panel) == "not applicable"


def test_complex_codewords_count_twice(draw_x: Draw) -> None:
    class ComplexCode(FirstTaps):
        def encode(self, y: Tensor) -> Tensor:
            return to_complex(y[..., :4]).flatten(1)

        def decode(self, z: Tensor) -> Tensor:
            return F.pad(stack_real(z.unflatten(1, (1, 8, 4))), (0, 4))

    found = run_preflight(ComplexCode(), draw_x(24), name="mine")
    assert besides_passes(found) == {}
    assert found.verdict("code length").words == (
        "64 numbers a codeword (complex counted twice), as declared"
    )


# --- The verdicts together ------------------------------------------------------------------------


def test_a_preflight_in_one_line_and_as_json(draw_x: Draw) -> None:
    sound = run_preflight(FirstTaps(), draw_x(24), name="mine")
    passing = sound.counts["pass"]
    assert sound.sentence() == (
        f"mine: {passing} of {passing} checks pass on 24 channels: fit for an audit."
    )
    bad = run_preflight(IgnoresItsCode(), draw_x(24), name="mine")
    assert bad.sentence() == (
        f"mine: {passing - 4} of {passing - 2} checks pass on 24 channels, 1 with a warning; an "
        "audit would be meaningless (use of the code)."
    )
    plain = json.loads(json.dumps(bad.to_dict(), allow_nan=False))
    assert (plain["name"], plain["n"], plain["meaningless"]) == ("mine", 24, True)
    assert len(plain["verdicts"]) == len(CHECKS)
    assert set(plain["verdicts"][0]) == {"check", "outcome", "words", "measured", "unit"}


def test_there_is_no_verdict_on_another_name(draw_x: Draw) -> None:
    found = run_preflight(FirstTaps(), draw_x(4), name="mine")
    with pytest.raises(KeyError, match="check must be a known one; got 'code'"):
        found.verdict("code")


def test_a_code_number_at_a_rounding_tie_is_no_coupling(draw_x: Draw) -> None:
    """Sums differ in their last bit alone and in a batch, so a quantised code may differ too."""
    x = draw_x(24)
    quantised = TieFlips()
    quantised.at_a_tie = x[3]
    found = run_preflight(quantised, x, name="mine").verdict("batch independence")
    assert found.outcome == "warn"
    assert "1 of 24 channels differ alone and in a batch: a code number at a rou" in found.words
    check_compressor(quantised, x, name="mine")
    quantised.bits = lambda z: None  # type: ignore[method-assign]
    with pytest.raises(CsiAuditError, match="differently alone and in a batch"):
        check_compressor(quantised, x, name="mine")
