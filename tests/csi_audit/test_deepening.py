"""Beyond the base samples: rare tails, guided samples, doubled steps, and how they go on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reports.report
from channels import ChannelDomain, load_channels
from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from compressors import in_audit_space, load_compressor
from csi_audit import deepening, dispatch
from csi_audit.auditing import audit
from csi_audit.base import load_base
from csi_audit.configs import RunConfig
from csi_audit.losses import NmseLoss
from csi_audit.sampling import ode_2m, sigma_grid
from reports import Estimate, Result, load_result

pytestmark = pytest.mark.end_to_end

Make = Callable[..., RunConfig]
SMALL: dict[str, Any] = {
    "tail_runs": 5, "tail_particles": 40, "tail_deepest": 0.01,
    "guided_particles": 128, "guided_steps": 5,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])


@pytest.fixture
def make(tiny: Any, tmp_path: Path) -> Make:
    def settings(**changes: Any) -> RunConfig:
        plain: dict[str, Any] = {
            "data": str(tiny.data),
            "compressor": (tiny.half,),
            "base": str(tiny.base),
            "out": str(tmp_path / "run"),
            "n_base": 60,
            "steps": 4,
            "batch_size": 64,
            "device": "cpu",
            **SMALL,
        }
        return RunConfig(**{**plain, **changes})

    return settings


def timeless(result: Result) -> dict[str, Any]:
    """A result without what no two audits share."""
    plain: dict[str, Any] = json.loads(result.to_json())
    del plain["created"], plain["cost"]["seconds"]
    return plain


@pytest.fixture(scope="module")
def everything(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result, list[tuple[str, int, int]]]:
    """An audit in which all was asked for: folder, result, calls of the progress display."""
    folder = tmp_path_factory.mktemp("everything") / "run"
    calls: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])
        config = RunConfig(
            data=str(tiny.data), compressor=(tiny.half, tiny.quarter), base=str(tiny.base),
            out=str(folder), n_base=60, steps=4, batch_size=64, device="cpu", tau_db=(-3.0, 40.0),
            tail_method="subset", mean_method="guided", double_steps=True, **SMALL,
        )  # fmt: skip
        result = audit(config, progress=lambda *call: calls.append(call))
    return folder, result, calls


Everything = tuple[Path, Result, list[tuple[str, int, int]]]


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


def known_float(value: float | None) -> float:
    assert value is not None
    return value


# --- What stands in the result --------------------------------------------------------------------


def test_it_survives_the_file(everything: Everything) -> None:
    folder, result, _ = everything
    assert load_result(folder) == result
    assert not (folder / "state").exists()


def test_tails_have_method_cost_and_status(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.compressors:
        own, fixed, never = row.estimates.tails
        for tail in (own, fixed, never):
            base, counted = known(tail.base), known(tail.counted)
            assert base.method.startswith("subset simulation, 5 runs of 40 particles a level, sha")
            assert "probability-flow ODE (2M), 4 steps" in base.method
            cost = result.cost.parts[f"subset simulation for {row.name}"]
            assert base.n_evaluations == cost
            assert counted.method == "probability-flow ODE (2M), 4 steps, counted"
            assert (counted.n, counted.n_evaluations) == (60, 240)
        assert known(never.base).status.startswith("none seen: upper bound only")
        assert never.agreement in ("agree", "cannot tell")


def test_the_tail_curve_is_monotone_and_has_both_sides(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.compressors:
        curve = row.estimates.curve
        assert curve is not None
        assert (curve.runs, [p.probability for p in curve.points]) == (5, [0.1, 0.01])
        levels = [known(point.base) for point in curve.points]
        assert levels[0].value < levels[1].value
        for point in curve.points:
            low, high = known(point.base).interval or (0, 0)
            assert low <= known(point.base).value <= high
            assert known(point.real).method == "real channels, counted"


def test_guided_samples_stand_beside_reweighting(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.compressors:
        entry = row.estimates.guided
        assert entry is not None
        for estimate in (entry.e_q, entry.z):
            assert estimate.method.startswith("twisted SMC on the second-order SDE (2M), 5 steps,")
            assert "only 2 island(s), 10 needed" in estimate.status
        assert entry.reweighted.method == "second-order SDE (2M), 5 steps, reweighted"
        assert (entry.n, entry.steps, len(entry.r2)) == (128, 5, 5)
        assert max(entry.r2.values()) <= 1.0
        assert entry.z.n == 2
        assert row.estimates.decisions[0].chosen == "guided SMC"


def test_both_laws_stand_beside_each_other(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.compressors:
        audited, guided, doubled = row.estimates.chains
        assert [c.label for c in row.estimates.chains] == [
            "audited law",
            "guided chain",
            "doubled steps",
        ]
        assert audited.chain == "probability-flow ODE (2M), 4 steps"
        assert guided.chain == "second-order SDE (2M), 5 steps"
        assert doubled.chain == "probability-flow ODE (2M), 8 steps"
        assert guided.shifts == {}
        assert set(audited.tails) == set(guided.tails) == set(doubled.tails)
        assert "guided" not in guided.tails["−3 dB"].method
        assert doubled.tails["−3 dB"].method.startswith("subset simulation")
        shift = doubled.shifts["E_p[L]"]
        assert shift.value == pytest.approx(doubled.e_p.value - audited.e_p.value)
        assert known_float(shift.std_error) < known_float(known(audited.e_p).std_error)


def test_costs_add_up(everything: Everything) -> None:
    _, result, calls = everything
    parts = result.cost.parts
    assert sum(parts.values()) == result.cost.denoiser_evaluations
    assert parts["base samples"] == 240
    assert parts["plain draws, guided chain"] == 300
    assert parts["plain draws, doubled steps"] == 480
    assert parts["guided SMC for Half"] == 60 * 5 + 128 * 9
    assert parts["subset simulation for Half, doubled steps"] >= 5 * 40 * 8
    made = {what: max(count for name, count, _ in calls if name == what) for what, *_ in calls}
    assert made == parts


# --- How it is made -------------------------------------------------------------------------------


def test_the_law_is_the_audited_one(make: Make, tmp_path: Path) -> None:
    """First draws of subset simulation: the same chain, brought onto the unit-power sphere."""
    config, kept = make(tail_method="subset"), {}

    def look(what: str, made: int, total: int) -> None:
        path = tmp_path / "run" / "state" / "subset-4-Half-000-0000.npz"
        if path.is_file():
            kept["values"] = np.load(path)["values"]

    audit(config, progress=look)
    base, domain = load_base(config.base), ChannelDomain.of(load_channels(config.data))
    z = torch.randn(40, 2, 8, 8, generator=seeded_generator(0, "subset-4-Half-000", 0))
    x = z * (base.sigma_max**2 + base.variance).sqrt()
    with torch.inference_mode():
        x = ode_2m(base.denoiser, x, sigma_grid(base.sigma_max, base.sigma_min, 4))
    loss = NmseLoss(in_audit_space(load_compressor(config.compressor[0]).compressor))
    np.testing.assert_allclose(kept["values"], loss(domain.onto_law(x)).numpy(), rtol=1e-4)


def test_a_killed_audit_goes_on_from_its_last_level(make: Make, tmp_path: Path) -> None:
    changes = {"tail_method": "subset", "mean_method": "guided"}
    whole = audit(make(out=str(tmp_path / "whole"), **changes))

    def interrupt(at: str, share: float) -> Callable[[str, int, int], None]:
        def told(what: str, made: int, total: int) -> None:
            if what == at and made > share * total:
                raise KeyboardInterrupt

        return told

    state = tmp_path / "run" / "state"
    for step, share, held in (
        ("subset simulation for Half", 0.5, "subset-4-Half-001-0000.npz"),
        ("guided SMC for Half", 0.7, "guided-Half-0000.npz"),
    ):
        with pytest.raises(KeyboardInterrupt):
            audit(make(**changes), progress=interrupt(step, share))
        assert (state / held).is_file()
    calls: list[tuple[str, int, int]] = []
    resumed = audit(make(**changes), progress=lambda *call: calls.append(call))
    assert timeless(resumed) == timeless(whole)
    made = {what: max(count for name, count, _ in calls if name == what) for what, *_ in calls}
    assert made == whole.cost.parts


def test_by_default_nothing_more_is_done_where_nothing_is_rare(make: Make) -> None:
    result = audit(make())
    assert set(result.cost.parts) == {"base samples"}
    (row,) = result.compressors
    mean, *tails = row.estimates.decisions
    assert mean.chosen == "reweighting"
    assert {d.chosen for d in tails} == {"counting"}
    assert row.estimates.curve is not None
    assert row.estimates.curve.runs is None
    assert (row.estimates.chains, row.estimates.guided) == ((), None)


def test_a_rare_threshold_is_noticed(make: Make) -> None:
    """400 base samples without a failure call for subset simulation, of that threshold alone."""
    result = audit(make(n_base=400, block=400, tau_db=(-10.0, 0.5)))
    (row,) = result.compressors
    _, often, rare = row.estimates.tails
    assert known(rare.base).method.startswith("subset simulation")
    assert known(rare.counted).status == "none seen: upper bound only"
    assert often.counted is None
    assert row.estimates.decisions[3].chosen == "subset simulation"
    assert row.estimates.decisions[3].candidates[0].seconds is not None
    assert {"speeds", "subset simulation for Half"} <= result.cost.parts.keys()


def test_off_shows_no_curve(make: Make) -> None:
    (row,) = audit(make(tail_method="off")).compressors
    assert row.estimates.curve is None
    assert {d.chosen for d in row.estimates.decisions[1:]} == {"counting"}


def test_a_refused_twist_is_a_finding(make: Make) -> None:
    """40 pilot samples are too few to fit: the audit says so and goes on by reweighting."""
    (row,) = audit(make(n_base=40, mean_method="guided")).compressors
    mean = row.estimates.decisions[0]
    assert mean.chosen == "reweighting"
    assert "refused: pilot_x0 must hold at least 50 samples; got 40" in mean.reason
    assert row.estimates.guided is None


def test_speeds_are_measured_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed audit decides by the speeds that the first one found."""
    for module in (deepening, dispatch):
        monkeypatch.setattr(module, "CV2_LIMIT", 0.0)

    def interrupt(what: str, made: int, total: int) -> None:
        if what != "base samples":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(make(mean_method="auto", double_steps=True), progress=interrupt)
    folder = Path(make().out or "")
    with np.load(folder / "state" / "prices-Half-0000.npz") as found:
        seconds = found["seconds"]
    (row,) = audit(make(mean_method="auto", double_steps=True)).compressors
    asked = row.estimates.decisions[0].candidates[0]
    samples = known_float(asked.evaluations) / 4
    assert asked.seconds == pytest.approx(samples * (4 * seconds[0] + seconds[2]))


def test_a_damaged_level_is_named(make: Make, tmp_path: Path) -> None:
    def interrupt(what: str, made: int, total: int) -> None:
        if what.startswith("subset") and made > 0.5 * total:
            raise KeyboardInterrupt

    config = make(tail_method="subset")
    with pytest.raises(KeyboardInterrupt):
        audit(config, progress=interrupt)
    path = tmp_path / "run" / "state" / "subset-4-Half-000-0000.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CsiAuditError, match=r"subset-4-Half-000-0000\.npz is damaged .* Remove"):
        audit(replace(config))
