"""True outage probabilities against counts, the figures, and a run at toy size that resumes."""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import harness
from benchmarks import network_truth as benchmark
from benchmarks.network_laws import (
    IndependentTruth,
    SinrQuadrature,
    UniformMap,
    bisect,
    outage_threshold,
    outage_truth,
    part_key,
    relative_gain,
)
from benchmarks.network_rows import coverage, exact_rows, known
from channels.network import CellNetwork
from channels.placements import HotspotUsers, PlacementLaw, StreetUsers, UniformUsers
from csi_audit.run_state import BlockStore
from reports.estimates import clopper_pearson, proportion

NETWORK = CellNetwork()


@pytest.mark.statistical
@pytest.mark.parametrize(
    "law", [UniformUsers(n_users=4), StreetUsers(n_users=4), HotspotUsers(n_users=4)]
)
def test_truth_against_counted_draws(law: PlacementLaw) -> None:
    """At a confidence of 1 - 1e-6, and sharp enough to tell one user more or fewer."""
    n = 40_000
    truth = outage_truth(law, NETWORK, at_least=2, draws=4000, seed=0, cells=200)
    gamma = 1.0
    below = (NETWORK.sinr_db(law.draw(n, generator=torch.Generator().manual_seed(0))) < gamma).sum(
        1
    )
    low, high = clopper_pearson(int((below >= 2).sum()), n, 1 - 1e-6)
    found = truth.below(gamma)
    slack = 5 * (found.std_error or 0.0)
    assert low - slack <= found.value <= high + slack
    assert high - low + 2 * slack < 0.4 * found.value
    wrong = outage_truth(law, NETWORK, at_least=3, draws=4000, seed=0, cells=200).below(gamma)
    assert not low - slack <= wrong.value <= high + slack


@pytest.mark.unit
def test_quadrature_of_a_disc_and_its_threshold() -> None:
    """One station without noise but its own: SINR falls with distance alone, so areas are discs."""
    network = CellNetwork(stations_m=((50.0, 50.0),), noise_w=1e-6, epsilon=1e-9)
    radius = 30.0
    gamma = 10 * math.log10(1 / (radius**3.5 * 1e-6))
    grid = SinrQuadrature(network, cells=200)
    inside = torch.ones(200, 200, dtype=torch.bool)
    truth = IndependentTruth(grid=grid, inside=inside, n_users=3, at_least=3)
    p = 1 - math.pi * radius**2 / 1e4
    assert truth.one_user(gamma) == pytest.approx(p, rel=1e-4)
    assert truth.below(gamma).value == pytest.approx(p**3, rel=1e-3)
    assert outage_threshold(truth, p**3) == pytest.approx(gamma, abs=1e-2)
    assert bisect(lambda x: x > 0.3, 0, 1) == pytest.approx(0.3, abs=1e-6)


@pytest.mark.unit
def test_unknown_laws_are_refused() -> None:
    class Other(UniformUsers.__base__):  # type: ignore[misc,name-defined]
        n_users, name = 2, "other"

    with pytest.raises(TypeError, match="law must be uniform, street or hotspot; got Other"):
        outage_truth(Other(), NETWORK, at_least=1, draws=1, seed=0, cells=4)


@pytest.mark.unit
def test_what_is_kept_is_named_by_law_network_and_base() -> None:
    law, base = HotspotUsers(n_users=5), SimpleNamespace(sha256="a")
    others: list[tuple[Any, ...]] = [
        (law, NETWORK), (law, NETWORK, base), (law, NETWORK, SimpleNamespace(sha256="b")),
        (law, replace(NETWORK, exponent=3.0), base), (replace(law, spread=0.2), NETWORK, base),
        (replace(law, n_users=6), NETWORK, base),
    ]  # fmt: skip
    assert len({part_key(*other) for other in others}) == len(others)
    assert part_key(replace(law), replace(NETWORK)) == part_key(law, NETWORK)
    assert part_key(law, NETWORK).startswith("hotspot-5-")


@pytest.mark.unit
def test_another_law_makes_its_own_parts(tmp_path: Path) -> None:
    own = argparse.Namespace(centres=50, cells=40)
    options = harness.Options(
        name="n", command="", data_dir=None, split="val", seed=0, threads=1, out=tmp_path, own=own
    )
    store = BlockStore(tmp_path)
    laws = [HotspotUsers(n_users=3), HotspotUsers(n_users=3, spread=0.4)]
    first, other = (benchmark.thresholds(law, options, store) for law in laws)
    assert first != other
    assert len(list(store.folder.iterdir())) == 2
    assert benchmark.thresholds(laws[0], options, store) == first


@pytest.mark.unit
def test_gain_is_a_ratio_of_variances() -> None:
    ratio, cost = np.array([1.1, 0.9]), np.array([3000.0, 3000.0])
    assert relative_gain(ratio, cost, 30, 1e-3) == pytest.approx(0.999 / (1e-3 * 100) / 0.01)
    assert relative_gain(np.zeros(4), cost, 30, 1e-3) is None
    assert relative_gain(np.array([1.0, 1.0]), cost, 30, 1e-3) is None


@pytest.mark.statistical
def test_the_uniform_map_has_the_exact_tail(tmp_path: Path) -> None:
    """Its rows say so too: bias within 4 standard errors, and a gain at the deeper level."""
    law = UniformUsers(n_users=5)
    x = UniformMap((5, 2))(torch.randn(4000, 5, 2, generator=torch.Generator().manual_seed(0)))
    assert stats.kstest(x.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-6
    truth = outage_truth(law, NETWORK, at_least=3, draws=1, seed=0, cells=200)
    exact = [{"p": truth.below(g).value} for g in (0.5, -0.5)]
    own = argparse.Namespace(particles=500, exact_groups=3)
    options = harness.Options(
        name="n", command="", data_dir=None, split="val", seed=0, threads=1, out=tmp_path, own=own
    )
    store = BlockStore(tmp_path)
    groups = benchmark.exact_groups(law, [-0.5, 0.5], options, store)
    rows = exact_rows({}, exact, groups)
    for row in rows:
        assert abs(row["engine_over_data"] - 1) < 4 * row["engine_over_data_se"] < 0.7
    assert benchmark.exact_groups(StreetUsers(n_users=5), [0.0, 1.0], options, store) == []


def group(value: float, half: float) -> dict[str, Any]:
    return {"interval": np.array([[value - half, value + half]])}


@pytest.mark.unit
def test_coverage_is_told_only_where_the_count_is_sharp() -> None:
    plain = proportion(1000, 100_000)  # 0.01 with a standard error of 0.0003
    groups = [group(0.01, 0.002), group(0.0125, 0.002)]
    assert known(plain, groups, 0)
    assert coverage(plain, groups, 0) == 0.5
    blunt = proportion(10, 1000)
    assert not known(blunt, groups, 0)
    assert coverage(blunt, groups, 0) is None
    assert not known(proportion(0, 1000), groups, 0)
    assert [benchmark.at_least(n) for n in (1, 2, 5, 20)] == [1, 1, 3, 9]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run main() at toy size; returns what it wrote."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(benchmark, "RUNS_NEEDED", 3)
    sizes = {"train-steps": 2, "train-draws": 100, "steps": 4, "draws": 300, "groups": 2,
             "particles": 40, "centres": 100, "cells": 120, "fidelity": 200,
             "tilted": 40, "tilted-draws": 1500, "pilot": 300, "island": 20,
             "issgm-steps": 4}  # fmt: skip
    words = [word for key, value in sizes.items() for word in (f"--{key}", str(value))]
    words += ["--laws", "hotspot", "--users", "2", "--tilted-users", "2"]

    def start(*more: str) -> Any:
        arguments = ["network_truth.py", *words, "--state", str(tmp_path / "state"), *more]
        monkeypatch.setattr(sys, "argv", arguments)
        benchmark.main()
        return json.loads((tmp_path / "results" / "network_truth.json").read_text())

    return start


@pytest.mark.end_to_end
def test_a_toy_run_writes_every_part_and_is_resumed(
    run: Any, tmp_path: Path, seeded_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()
    rows = first["rows"]
    assert [row["part"] for row in rows].count("outage") == 3
    assert {row["data"] for row in rows} == {"placements"}
    outage = [row for row in rows if row["part"] == "outage"]
    assert [row["p"] for row in outage] == sorted((row["p"] for row in outage), reverse=True)
    assert "40 particles a level" in outage[-1]["detail"]["engine_status"]
    assert outage[-1]["sampler_p"] < outage[0]["sampler_p"] < 0.2
    tilted = [row for row in rows if row["part"] == "tilted"]
    assert len(tilted) == 8
    assert {row["weight"] for row in tilted} == {"expected outage", "joint outage"}
    told = [row for row in tilted if "e_q" in row]
    assert sum(row["method"] in ("reweighted", "issgm") for row in told) == 4
    assert all(0 < row["e_q"] <= 1 and 0 <= row["js"] <= math.sqrt(math.log(2)) for row in told)
    assert all("refused" in row["detail"]["status"] for row in tilted if "e_q" not in row)
    names = {row["figure"] for row in rows if row["part"] == "sampler against data law"}
    assert {"shortfall_db", "edge_distance", "closest_pair_m"} <= names
    assert any("sampler over data law" in item["id"] for item in first["checks"])
    (tmp_path / "results" / "network_truth.json").unlink()

    def forbidden(*_: object) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr(benchmark, "outage_truth", forbidden)
    monkeypatch.setattr(benchmark, "SubsetSimulation", forbidden)
    second = run()
    assert second["rows"] == rows
