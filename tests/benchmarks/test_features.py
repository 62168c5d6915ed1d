"""The benchmark of the physical features, at toy size."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from benchmarks import features as benchmark
from channels import ChannelSet, features, load_channels


@pytest.mark.end_to_end
def test_every_label_is_compared(
    start: Callable[..., dict[str, Any]], toy_files: dict[str, Path]
) -> None:
    found = start(benchmark.main, "features", "--repeats", "1")
    users = load_channels(toy_files["data"] / "val.h5")
    values = {name: value.numpy() for name, value in features(users).items()}
    los = users.label("is_los").bool().numpy()
    rows = {(r["feature"], r["label"], r["users"], r["figure"]): r for r in found["rows"]}
    assert len(rows) == len(found["rows"])

    for feature, label, scale in (
        ("delay_spread_s", "delay_spread_s", 1e9),
        ("azimuth_spread_deg", "asd_deg", 1.0),
    ):
        truth = users.label(label).numpy()
        for group, mask in (
            ("all", los | True),
            ("line of sight", los),
            ("no line of sight", ~los),
        ):
            a, b = values[feature][mask], truth[mask]
            row = rows[feature, label, group, "rank correlation"]
            assert (row["n"], row["unit"]) == (mask.sum(), "1")
            assert row["value"] == pytest.approx(spearmanr(a, b).statistic, abs=1e-4)
            assert row["interval"][0] <= row["value"] <= row["interval"][1]
            bias = rows[feature, label, group, "median bias"]["value"]
            assert bias == pytest.approx(scale * np.median(a - b), rel=1e-3)

    k, wanted = values["k_factor_db"], users.label("k_factor_db").numpy()
    row = rows["k_factor_db", "k_factor_db", "line of sight", "median bias"]
    assert row["unit"] == "dB"
    assert row["value"] == pytest.approx(np.median((k - wanted)[los]), rel=1e-3)
    assert ("k_factor_db", "k_factor_db", "all", "median bias") not in rows
    area = np.mean(k[los][:, None] > k[~los])
    assert rows["k_factor_db", "is_los", "all", "area under ROC"]["value"] == pytest.approx(
        area, abs=1e-4
    )
    assert rows["delay_spread_s", "itself, in noise at 20 dB", "all", "median ratio"][
        "value"
    ] == pytest.approx(1.0, abs=0.05)
    assert rows["all features", "the clock", "all", "speed"]["value"] > 0
    assert found["sizes"]["users"] == 60

    for check in found["checks"]:
        feature_label, _, figure = check["id"].partition(": ")
        feature, _, rest = feature_label.partition(" against ")
        label, _, group = rest.rpartition(", ")
        name, _, centre = figure.strip("|").partition(" - ")
        row = rows[feature, label, group, name]
        if figure == name:
            assert (check["value"], check["interval"]) == (row["value"], row["interval"])
        else:
            assert check["value"] == pytest.approx(abs(row["value"] - float(centre or 0)))
            assert check["interval"][0] <= check["value"] <= check["interval"][1]
    names = [check["id"].partition(": ")[2] for check in found["checks"]]
    assert (len(names), names.count("|median bias|"), names.count("|median ratio - 1|")) == (
        7,
        1,
        1,
    )


@pytest.mark.unit
@pytest.mark.parametrize(
    ("feature", "label", "users", "figure", "value", "interval", "verdict"),
    [
        ("k_factor_db", "k_factor_db", "line of sight", "median bias", -30.0, (-31, -29), "short"),
        ("k_factor_db", "k_factor_db", "line of sight", "median bias", 30.0, (29, 31), "short"),
        ("k_factor_db", "k_factor_db", "line of sight", "median bias", -0.2, (-0.9, 0.4), "pass"),
        ("k_factor_db", "k_factor_db", "line of sight", "median bias", -1.2, (-1.6, -1),
         "cannot tell"),
        ("delay_spread_s", "itself, in noise at 20 dB", "all", "median ratio", 0.1, (0.09, 0.11),
         "short"),
        ("delay_spread_s", "itself, in noise at 20 dB", "all", "median ratio", 1.9, (1.8, 2.0),
         "short"),
        ("delay_spread_s", "itself, in noise at 20 dB", "all", "median ratio", 0.98, (0.96, 1.01),
         "pass"),
    ],
)  # fmt: skip
def test_too_low_is_as_bad_as_too_high(
    feature: str,
    label: str,
    users: str,
    figure: str,
    value: float,
    interval: tuple[float, float],
    verdict: str,
) -> None:
    row = benchmark.row_of(feature, label, users, 9, figure, value, interval, "1")
    judged = {check.id: check for check in benchmark.checks_of([row])}
    told = [check for check in judged.values() if check.value is not None]
    assert [check.verdict for check in told] == [verdict]


@pytest.mark.unit
def test_how_far_off_holds_the_interval() -> None:
    assert benchmark.off(1.0, 0.75, (0.5, 1.25)) == (0.25, (0.0, 0.5))
    assert benchmark.off(0.0, -3.0, (-4.0, -2.0)) == (3.0, (2.0, 4.0))
    assert benchmark.off(0.0, None, None) == (None, None)


@pytest.mark.unit
def test_a_circle_is_measured_the_short_way_round() -> None:
    pair = benchmark.Pair(feature="dominant_beam", label="", truth=np.zeros(1), period=2.0)
    gap = pair.difference(np.array([0.99, -0.9, 0.2]), np.array([-0.98, 0.9, 0.1]))
    assert gap == pytest.approx([-0.03, 0.2, 0.1])


@pytest.mark.unit
def test_chance_of_more_and_its_interval() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0])
    assert benchmark.chance_of_more(a, b) == pytest.approx((3 + 1 + 0.5) / 6)
    random = np.random.default_rng(0)
    a, b = random.normal(1, 1, 200), random.normal(0, 1, 100)
    low, high = benchmark.bootstrap(benchmark.chance_of_more, a, b, seed=0, paired=False)
    assert low < 0.7602 < high  # Phi(1/sqrt 2)
    assert 0.05 < high - low < 0.2


@pytest.mark.unit
def test_only_labels_that_are_there_are_compared(sample_users: ChannelSet) -> None:
    pairs = [pair.label for pair in benchmark.pairs_of(sample_users)]
    assert pairs == ["delay_spread_s"]
    checks = {check.id: check.verdict for check in benchmark.checks_of([])}
    assert set(checks.values()) == {"cannot tell"}


@pytest.mark.unit
def test_the_direct_path_is_told_from_the_users_place(sample_users: ChannelSet) -> None:
    """The base station stands 10 m high, its array along the second axis."""
    place = torch.tensor([[30.0, 40.0, 10.0]]).expand(len(sample_users), 3).clone()
    place[0] = torch.tensor([0.0, -3.0, 6.0])
    placed = replace(sample_users, labels={"ue_pos_m": place})
    beam, delay = benchmark.pairs_of(placed)
    assert (beam.feature, delay.feature) == ("dominant_beam", "dominant_delay_s")
    assert beam.truth[:2] == pytest.approx([-0.6, 0.8])
    assert (delay.truth == 0).all()
    rows = benchmark.label_rows(beam, "all", beam.truth + 1.99, beam.truth, 0)
    assert [row["figure"] for row in rows] == ["median bias", "90 % of errors below"]
    assert rows[0]["value"] == pytest.approx(-0.01)


@pytest.fixture
def sample_users(toy_files: dict[str, Path]) -> ChannelSet:
    """Users whose file knows the delay spread only."""
    users = load_channels(toy_files["data"] / "val.h5")
    return replace(users, labels={"delay_spread_s": users.label("delay_spread_s")})
