"""The estimators, rows, targets and the figure of the benchmark of the zoo."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from benchmarks.zoo_entries import Entry
from benchmarks.zoo_figures import Shown, zoo_figure
from benchmarks.zoo_rows import (
    checks_of,
    published_parameters,
    ratio_of_means_db,
    row_of,
    stored_numbers,
    time_figures,
)
from channels import Convention
from compressors import Klt, build_compressor

statistical, unit = pytest.mark.statistical, pytest.mark.unit

ALPHA = 1e-6
SHAPE = (2, 8, 8)


# --- The paired ratio -----------------------------------------------------------------------------


def covers(found: list[tuple[float, float]], truth: float, level: float = 0.95) -> bool:
    """Whether as many intervals hold the truth as binomial bounds at ALPHA allow."""
    held = sum(low <= truth <= high for low, high in found)
    low, high = stats.binom.ppf([ALPHA / 2, 1 - ALPHA / 2], len(found), level)
    return bool(low <= held <= high)


@statistical
def test_ratio_of_means_is_paired() -> None:
    """a = 2 e s, b = e: 10 log10 2 with E[s] = 1. Mutants: users not paired, mean of decibels."""
    random = np.random.default_rng(0)
    truth, sigma, n = 10 * math.log10(2), 0.5, 300
    values, of_decibels = [], []
    found: list[tuple[float, float]] = []
    unpaired: list[tuple[float, float]] = []
    for _ in range(1000):
        e = random.gamma(4.0, size=n)
        a = 2 * e * random.lognormal(-(sigma**2) / 2, sigma, n)
        ratio = ratio_of_means_db(a, e)
        assert ratio.interval is not None
        values.append(ratio.value)
        found.append(ratio.interval)
        of_decibels.append(float(10 * np.log10(a / e).mean()))
        se = 10 / math.log(10) * math.hypot(*(v.std() / v.mean() / n**0.5 for v in (a, e)))
        unpaired.append((ratio.value - 1.96 * se, ratio.value + 1.96 * se))
    t = stats.t.ppf(1 - ALPHA / 2, len(values) - 1)
    half = t * np.std(values, ddof=1) / math.sqrt(len(values))
    assert half <= abs(np.mean(of_decibels) - truth) / 3, "too few samples"
    assert half <= 0.2 * truth
    assert abs(np.mean(values) - truth) <= half < abs(np.mean(of_decibels) - truth)
    assert covers(found, truth)
    assert not covers(unpaired, truth)


@unit
def test_ratio_without_scatter_or_mean() -> None:
    same = ratio_of_means_db([2.0, 4.0], [1.0, 2.0])
    assert same.value == pytest.approx(10 * math.log10(2))
    assert (same.interval, same.status) == (None, "no scatter, no interval")
    assert ratio_of_means_db([2.0], [1.0]).interval is None
    message = r"a and b must be of the same users with positive means; got 2 and 1 with means"
    with pytest.raises(ValueError, match=message):
        ratio_of_means_db([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match=r"positive means; got 1 and 1 with means 1 and 0"):
        ratio_of_means_db([1.0], [0.0])


# --- Facts and targets ----------------------------------------------------------------------------


def entry_of(compressor: Any, arch: str, **more: Any) -> Entry:
    given = {"name": arch, "role": "named", "length": compressor.n_code, "key": None, **more}
    return Entry(compressor=compressor, arch=arch, **given)


@unit
@pytest.mark.parametrize("arch", ["csinet", "crnet", "clnet", "acrnet", "transnet"])
@pytest.mark.parametrize("ratio", [4, 16, 64])
def test_parameters_are_the_published_ones(arch: str, ratio: int) -> None:
    with torch.device("meta"):
        net = build_compressor(arch, ratio=ratio)
    entry = entry_of(net, arch)
    assert stored_numbers(net) == published_parameters(entry, (2, 32, 32))
    assert published_parameters(entry, SHAPE) is None


@unit
def test_no_count_is_known_of_wide_or_unknown_nets() -> None:
    with torch.device("meta"):
        net = build_compressor("acrnet", ratio=64, expansion=2)
    wide = entry_of(net, "acrnet", card={"compressor": {"options": {"expansion": 2}}})
    assert published_parameters(wide, (2, 32, 32)) is None
    assert published_parameters(entry_of(net, "Mine"), (2, 32, 32)) is None
    assert stored_numbers(Klt(16, n_tx=8, n_delay=8)) == 8 * 8 * 8 * 2
    assert stored_numbers(SimpleNamespace()) is None


def row(name: str, arch: str, gain: list[float] | None, **more: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"float16_change": {"value": 0.02, "interval": [0.015, 0.025]}}
    if gain is not None:
        figures["gain"] = {"value": gain[0], "interval": gain[1:]}
    about = {"role": "named", "arch": arch, "published_parameters": 7, "has_weights": True}
    about |= {key: more.pop(key) for key in tuple(more) if key in about}
    return {"compressor": name, "ratio": 16, "parameters": 9, "figures": figures,
            "about": about, **more}  # fmt: skip


@unit
def test_targets_are_judged_by_their_intervals() -> None:
    rows = [
        row("a", "crnet", [1.5, 1.2, 1.8]),
        row("b", "clnet", [0.9, 0.7, 1.1], parameters=7),
        row("c", "acrnet", [0.5, 0.4, 0.6], published_parameters=None, has_weights=False),
        row("d", "transnet", [3.0, 2.0, 4.0], ratio=4),  # not the ratio that is asked for
        row("e", "transnet", [3.0, 2.0, 4.0], role="baseline"),
    ]
    found = {item.id: item.verdict for item in checks_of(rows)}
    gains = [found[f"{arch} at ratio 16: gain over the KLT [dB]"]
             for arch in ("crnet", "clnet", "acrnet", "transnet")]  # fmt: skip
    assert gains == ["pass", "cannot tell", "short", "cannot tell"]
    counts = {key[0]: verdict for key, verdict in found.items() if "parameters" in key}
    assert counts == {"a": "short", "b": "pass", "d": "short"}
    float16 = {key[0]: verdict for key, verdict in found.items() if "float16" in key}
    assert float16 == {"a": "short", "b": "short", "d": "short"}
    del rows[0]["figures"]["float16_change"]  # as where a weight does not fit
    assert {v.verdict for v in checks_of(rows[:1])} == {"pass", "short", "cannot tell"}


@unit
def test_time_is_taken_over_the_klt_of_the_same_round() -> None:
    found = time_figures(np.array([2.0, 4.0, 3.0]), np.array([1.0, 4.0, 1.0]), users=500)
    assert found["seconds_per_1000"]["value"] == 6.0
    assert found["seconds_per_1000"]["interval"] == [4.0, 8.0]
    assert found["time_over_klt"]["value"] == 2.0
    assert found["time_over_klt"]["interval"] == [1.0, 3.0]
    assert list(time_figures(np.array([1.0]), None, users=1)) == ["seconds_per_1000"]


class Lossless:
    """Whatever comes in, without a module and its parameters."""

    n_code = 64
    convention = Convention(event_shape=SHAPE)

    def encode(self, y: Tensor) -> Tensor:
        return y

    def decode(self, z: Tensor) -> Tensor:
        return z

    def bits(self, z: Tensor) -> Tensor | None:
        return None


@unit
def test_a_row_without_errors_or_reference() -> None:
    """A lossless code has no decibels, and nothing is compared where there is no KLT."""
    entry = entry_of(Lossless(), "Lossless")
    nothing = np.zeros(30)
    found = row_of(entry, {"Lossless": {"nmse": nothing, "sgcs": nothing + 1}},
                   {"Lossless": np.ones(2)}, timed_users=10, shape=SHAPE)  # fmt: skip
    unknown = ["nmse_db", "gain_db", "in_bits_db", "q99_db", "cvar99_db", "bits", "parameters"]
    assert {found[name] for name in [*unknown, "macs", "over_klt"]} == {None}
    assert (found["ratio"], found["sgcs"], found["s_per_1000"]) == (2, 1.0, 100.0)


# --- The figure -----------------------------------------------------------------------------------


@unit
def test_figure_has_a_row_a_code_length() -> None:
    """Four users at -10, -20, -30, -40 dB: a half lies above -30 dB."""
    users = 10 ** -np.array([1.0, 3.0, 2.0, 4.0])
    curve = np.array([[1000.0, -1.0], [2000.0, -2.0]])
    shown = [
        Shown(label="klt", length=128, is_named=False, is_klt=True, nmse=users),
        Shown(label="net", length=128, is_named=True, is_klt=False, nmse=users, curve=curve,
              klt_db=-1.5),
        Shown(label="$taps", length=32, is_named=False, is_klt=False, nmse=users),
    ]  # fmt: skip
    (left, right, empty, _) = zoo_figure(shown).axes
    net, level = left.lines
    assert net.get_xydata().tolist() == [[1.0, -1.0], [2.0, -2.0]]  # type: ignore[union-attr]
    assert list(level.get_ydata()) == [-1.5, -1.5]  # type: ignore[arg-type]
    assert [line.get_linestyle() for line in right.lines] == ["--", "-"]
    np.testing.assert_allclose(
        right.lines[0].get_xydata(), [[-40, 0.75], [-30, 0.5], [-20, 0.25]]  # type: ignore[arg-type]
    )  # fmt: skip
    assert empty.texts[0].get_text() == "no training curve in the cards"
