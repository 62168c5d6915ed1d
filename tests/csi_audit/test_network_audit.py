"""Audits of a cell network end to end: what comes out, how it goes on, and against exact outage."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.network_laws import IndependentTruth, SinrQuadrature
from channels.network import CellNetwork
from channels.placements import HotspotUsers
from channels.run_folder import AnotherConfigError
from channels.support import CsiAuditError
from csi_audit import network_audit, network_base, report_formats
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.gate_command import EXIT_FAILED
from csi_audit.network_audit import TRAINING, audit_network, network_run_directory
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.placement_base import build_placement_denoiser, save_placement_base
from csi_audit.placement_network import UserNetworkSpec
from csi_audit.report_formats import FIGURES, write_report_again
from csi_audit.run_state import read_arrays
from reports import Estimate, Result, load_result
from reports.placement_arrays import PlacementArrays

pytestmark = pytest.mark.end_to_end

Make = Callable[..., NetworkRunConfig]
SPEC = UserNetworkSpec(width=8, hidden=16, depth=1, heads=2)
SMALL: dict[str, Any] = {
    "n_base": 200, "steps": 4, "block": 50, "law_draws": 3000, "device": "cpu",
    "tail_runs": 5, "tail_particles": 40, "tail_deepest": 0.05,
    "guided_particles": 128, "guided_steps": 4,
}  # fmt: skip


def page(result: Result, arrays: PlacementArrays, folder: Path) -> Path:
    """Stands for the page, whose figures take seconds."""
    (folder / "report.html").write_text(f"{len(result.outages)} losses, {arrays.n_users} users")
    return folder / "report.html"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_audit, "write_network_report", page)
    monkeypatch.setattr(report_formats, "NETWORK", replace(report_formats.NETWORK, page=page))


@pytest.fixture(scope="module")
def exact_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uniform law of five users in closed form: the network around it is still zero."""
    return uniform_base(tmp_path_factory.mktemp("base") / "uniform.safetensors", n_users=5)


def uniform_base(path: Path, *, n_users: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        denoiser = build_placement_denoiser(SPEC, torch.full((n_users, 2), 1 / 3))
    save_placement_base(
        path, denoiser.state_dict(), network=SPEC, sigma_min=0.005, sigma_max=6.0, card={}
    )
    return path


@pytest.fixture
def make(exact_base: Path, tmp_path: Path) -> Make:
    def settings(**changes: Any) -> NetworkRunConfig:
        plain = {"network": "default", "base": str(exact_base), "out": str(tmp_path / "run")}
        return NetworkRunConfig(**{**plain, **SMALL, **changes})

    return settings


def timeless(result: Result) -> dict[str, Any]:
    """A result without what no two audits share."""
    plain: dict[str, Any] = json.loads(result.to_json())
    del plain["created"], plain["cost"]["seconds"]
    return plain


Everything = tuple[Path, Result, list[tuple[str, int, int]]]


@pytest.fixture(scope="module")
def everything(exact_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Everything:
    """An audit in which nearly all was asked for: folder, result, calls of the progress display."""
    folder = tmp_path_factory.mktemp("everything") / "run"
    calls: list[tuple[str, int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_audit, "write_network_report", page)
        config = NetworkRunConfig(
            network="default", base=str(exact_base), out=str(folder), tail_method="subset",
            mean_method="guided", double_steps=True, n_failures=100, tau_quantile=0.9,
            tau=(0.3,), tau_db=(-3.0,), loss=("joint_outage", "shortfall"),
            **{**SMALL, "tail_runs": 12, "n_base": 300, "steps": 3},
        )  # fmt: skip
        result = audit_network(config, progress=lambda *call: calls.append(call))
    return folder, result, calls


def known(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate


# --- What stands in the result --------------------------------------------------------------------


def test_it_survives_the_file(everything: Everything) -> None:
    folder, result, _ = everything
    assert load_result(folder) == result
    assert (folder / "report.html").read_text() == "2 losses, 5 users"
    assert not (folder / "state").exists()
    assert (folder / "config.yaml").is_file()


def test_the_network_and_its_losses(everything: Everything) -> None:
    _, result, _ = everything
    network = result.network
    assert network is not None
    assert (network.n_users, network.at_least, network.law) == (5, 3, "uniform")
    assert network.stations_m == CellNetwork().stations_m
    assert network.description.startswith("3 base stations on 100 m x 100 m, 5 users (uniform)")
    assert result.compressors == ()
    names = [row.name for row in result.outages]
    assert names == ["joint_outage", "shortfall_db"]
    labels = {tau.label for tau in result.tau}
    assert labels == {"own 90 % quantile", "0.3", "−3 dB"}
    for row in result.outages:
        assert {tail.threshold for tail in row.estimates.tails} <= labels
        assert all(tail.nmse_db is None for tail in row.estimates.tails)
        assert row.modes is not None


def test_both_sides_are_named(everything: Everything) -> None:
    _, result, _ = everything
    assert (result.data.path, result.data.sha256, result.data.n) == ("law: uniform", None, 3000)
    assert "brute force" in result.data.notices[0]
    for row in result.outages:
        loss = row.losses[row.name]
        assert known(loss.real).method == "draws of the law"
        for tail in row.estimates.tails:
            assert known(tail.real).method == "draws of the law, counted"
            assert (known(tail.real).n, known(tail.counted).n) == (3000, 300)


def test_tails_come_from_subset_simulation(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.outages:
        curve = row.estimates.curve
        assert curve is not None
        assert curve.runs == 12
        levels = [known(point.base).value for point in curve.points]
        assert levels == sorted(levels)
        assert known(curve.points[0].real).method == "draws of the law, counted"
        for tail in row.estimates.tails:
            assert known(tail.base).method.startswith("subset simulation, 12 runs of 40 particle")
    quantities = [d.quantity for d in result.outages[1].estimates.decisions]
    assert quantities == [
        "E_q[l] of the shortfall",
        "P(shortfall > own 90 % quantile)",
        "P(shortfall > −3 dB)",
    ]


def test_both_laws_and_guided_samples(everything: Everything) -> None:
    _, result, _ = everything
    for row in result.outages:
        entry = row.estimates.guided
        assert entry is not None
        assert entry.e_q.method.startswith("twisted SMC on the second-order SDE (2M), 4 steps")
        labels = [chain.label for chain in row.estimates.chains]
        assert labels == ["audited law", "guided chain", "doubled steps"]
        assert 0 < known(entry.z).value < known(entry.e_q).value < 1


def test_e_q_is_the_weight_where_it_puts_itself(everything: Everything) -> None:
    """E_p[l^2] / E_p[l] over the base samples of the file."""
    folder, result, _ = everything
    columns = read_arrays(folder / "samples.h5")
    arrays = PlacementArrays.from_flat(read_arrays(folder / "samples.h5", group="report"))
    for row in result.outages:
        values, l = columns[f"loss/{row.name}"], np.exp(arrays.log_l[row.name])
        e_q = known(row.estimates.e_q)
        assert e_q.value == pytest.approx(float((l * l).sum() / l.sum()))
        assert known(row.estimates.e_p).value == pytest.approx(float(values.mean()))
        assert e_q.method.endswith("reweighted")


def test_costs_add_up(everything: Everything) -> None:
    _, result, calls = everything
    parts = result.cost.parts
    assert sum(parts.values()) == result.cost.denoiser_evaluations
    assert parts["base samples"] == 300 * 3
    assert parts["plain draws, doubled steps"] == 300 * 6
    made = {what: max(count for name, count, _ in calls if name == what) for what, *_ in calls}
    assert made == parts


def test_columns_of_the_samples(everything: Everything) -> None:
    folder, _, _ = everything
    columns = read_arrays(folder / "samples.h5")
    assert columns["x"].shape == (300, 5, 2)
    assert np.abs(columns["x"]).max() <= 1
    assert set(columns["law"].tolist()) == {b"base"}
    assert {"loss/joint_outage", "loss/shortfall_db"} <= set(columns)
    assert columns["features/worst_sinr_db"].shape == columns["log_w"].shape == (300,)


def test_failures_fail_and_know_their_run(everything: Everything) -> None:
    folder, result, _ = everything
    arrays = PlacementArrays.from_flat(read_arrays(folder / "samples.h5", group="report"))
    assert arrays.network == CellNetwork()
    assert arrays.x_real.shape == (3000, 5, 2)
    assert arrays.failures
    for name, found in arrays.failures.items():
        (row,) = (row for row in result.outages if row.name == name)
        levels = [tail.level for tail in row.estimates.tails]
        assert arrays.tau[name] == max(level for level in levels if level is not None)
        assert found.clusters is not None
        assert len(np.unique(found.clusters)) > 10
        assert np.bincount(found.clusters.astype(int)).max() <= 100 // 12
        share = np.exp(found.log_w).sum() / 12
        tail = next(t for t in row.estimates.tails if t.level == arrays.tau[name])
        assert share == pytest.approx(known(tail.base).value)


def test_realism_of_losses_and_features(everything: Everything) -> None:
    _, result, _ = everything
    kinds = [item.kind for item in result.realism]
    assert (kinds.count("distortion"), kinds.count("feature")) == (2, 7)
    assert result.realism[0].label == "joint outage of 3 or more of 5 users"
    assert [ratio.name for ratio in result.tail_ratios] == [row.name for row in result.outages]
    assert {"distortion_ks", "feature_ks"} == set(result.base.fidelity)
    assert result.base.name == "uniform.safetensors"


# --- Commands on such a run -----------------------------------------------------------------------


def test_report_again(everything: Everything, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _, _ = everything
    (folder / "report.html").unlink()
    assert write_report_again(folder).read_text() == "2 losses, 5 users"
    assert main(["report", str(folder)]) == EXIT_OK
    assert "Report: " in capsys.readouterr().out


@pytest.mark.slow
def test_every_form_of_the_report(
    everything: Everything, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the figures the first two, for time."""
    folder, result, _ = everything
    kind = report_formats.NETWORK
    few = replace(kind, figures=lambda *given: islice(kind.figures(*given), 2))
    monkeypatch.setattr(report_formats, "NETWORK", few)
    words = [word for form in ("md", "csv", "svg", "png") for word in ("--format", form)]
    assert main(["report", str(folder), *words]) == EXIT_OK
    written = [Path(line[9:]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert "shortfall of the 3rd worst user" in (folder / "report.md").read_text()
    with (folder / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["base"] * 300 + ["real"] * 3000
    arrays = PlacementArrays.from_flat(read_arrays(folder / "samples.h5", group="report"))
    for row in result.outages:
        losses = [float(line[f"loss/{row.name}"]) for line in rows]
        expected = [*arrays.losses_base[row.name], *arrays.losses_real[row.name]]
        assert losses == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert float(rows[-1]["edge_users"]) == arrays.features_real["edge_users"][-1]
    names = [f"{name}.{form}" for form in ("svg", "png") for name in ("network", "overview")]
    assert written[2:] == [(folder / FIGURES / name).resolve() for name in names]
    assert sorted(file.name for file in (folder / FIGURES).iterdir()) == sorted(names)
    assert (folder / FIGURES / "network.svg").read_bytes().startswith(b"<?xml")
    assert (folder / FIGURES / "network.png").read_bytes().startswith(b"\x89PNG")


def test_gate_by_the_names_of_losses(
    everything: Everything, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = everything
    run = ["gate", str(folder)]
    assert main([*run, "--max", "p_fail(shortfall_db>-3)=0.5"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("PASS: shortfall_db: p_fail(shortfall_db>-3)@real <")
    assert main([*run, "--max", "p_fail(joint_outage>0.3)=1e-6"]) == EXIT_FAILED
    assert main([*run, "--max", "p_fail(shortfall_db>7)=0.5"]) == EXIT_BAD_INPUT
    assert "--tau_db LEVEL" in capsys.readouterr().err


def test_compare_is_for_compressors(
    everything: Everything, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, _ = everything
    assert main(["compare", str(folder), str(tmp_path), "--out", str(tmp_path / "c")]) == (
        EXIT_BAD_INPUT
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder} is the audit of a cell network" in line


# --- Against exact outage -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_user_out() -> Callable[[float], float]:
    """P(SINR < gamma) of one uniform user, by quadrature."""
    grid = SinrQuadrature(CellNetwork(), cells=400)
    inside = torch.ones(400, 400, dtype=torch.bool)
    truth = IndependentTruth(grid=grid, inside=inside, n_users=5, at_least=3)
    return truth.one_user


def joint(p: float, at_least: int = 3) -> float:
    """P(at least m of 5 independent users are out)."""
    from scipy import stats

    return float(stats.binom.sf(at_least - 1, 5, p))


@pytest.mark.statistical
def test_draws_of_the_law_and_the_engine_find_the_exact_outage(
    make: Make, one_user_out: Callable[[float], float]
) -> None:
    """Counted draws to five standard errors, where two users in place of three would be far off;
    subset simulation under the closed-form base within what 10 steps of its chain leave."""
    deep = 0.7
    result = audit_network(
        make(
            loss=("shortfall",), tau_db=(0.0, deep), tail_method="subset", law_draws=100_000,
            n_base=200, steps=10, tail_runs=6, tail_particles=1000, tail_deepest=1e-3,
            mean_method="reweighting",
        )
    )  # fmt: skip
    own, often, rare = result.outages[0].estimates.tails
    exact = joint(one_user_out(0.0))
    real = known(often.real)
    error = (exact * (1 - exact) / real.n) ** 0.5
    assert 5 * error <= 0.2 * exact
    assert abs(real.value - exact) <= 5 * error
    assert abs(real.value - joint(one_user_out(0.0), at_least=2)) > 10 * error

    seldom = joint(one_user_out(-deep))
    assert 5e-4 < seldom < 5e-3
    base = known(rare.base)
    low, high = base.interval or (0.0, 0.0)
    assert high / low < 3
    assert low <= 1.25 * seldom
    assert high >= 0.8 * seldom
    assert known(own.base).value == pytest.approx(0.01, rel=0.5)


# --- How it is made -------------------------------------------------------------------------------


def test_a_killed_audit_goes_on(make: Make, tmp_path: Path) -> None:
    changes = {"tail_method": "subset", "mean_method": "guided", "loss": ("joint_outage",)}
    whole = audit_network(make(out=str(tmp_path / "whole"), **changes))

    def interrupt(at: str, share: float) -> Callable[[str, int, int], None]:
        def told(what: str, made: int, total: int) -> None:
            if what == at and made > share * total:
                raise KeyboardInterrupt

        return told

    for step, share in (
        ("base samples", 0.5),
        ("subset simulation for joint_outage", 0.5),
        ("guided SMC for joint_outage", 0.7),
    ):
        with pytest.raises(KeyboardInterrupt):
            audit_network(make(**changes), progress=interrupt(step, share))
    calls: list[tuple[str, int, int]] = []
    resumed = audit_network(make(**changes), progress=lambda *call: calls.append(call))
    assert timeless(resumed) == timeless(whole)
    made = {what: max(count for name, count, _ in calls if name == what) for what, *_ in calls}
    assert made == whole.cost.parts


def test_a_base_law_is_trained_once_and_kept(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeded_torch: None
) -> None:
    def interrupt(what: str, made: int, total: int) -> None:
        if what != TRAINING:
            raise KeyboardInterrupt

    plain = {"loss": ("shortfall",), "tail_method": "counting", "mean_method": "reweighting"}
    config = make(base=None, train_steps=4, train_draws=200, **plain)
    with pytest.raises(KeyboardInterrupt):
        audit_network(config, progress=interrupt)
    kept = (tmp_path / "run" / "base.safetensors").read_bytes()
    with monkeypatch.context() as patch:  # a second training would be refused
        patch.setattr(network_base, "_fit", None)
        result = audit_network(config)
    assert (tmp_path / "run" / "base.safetensors").read_bytes() == kept
    assert result.base.name == "trained for this run"
    given = make(base=str(tmp_path / "run" / "base.safetensors"), out=str(tmp_path / "given"),
                 **plain)  # fmt: skip
    again = audit_network(given)
    assert again.base.sha256 == result.base.sha256
    assert again.outages == result.outages


def test_another_card_needs_another_folder(make: Make, tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("users: 5\n")
    quick = {"loss": ("shortfall",), "n_base": 50, "block": 50}
    first = audit_network(make(network=str(card), **quick))
    moved = tmp_path / "moved.yaml"
    card.rename(moved)
    assert audit_network(make(network=str(moved), **quick)) == first  # the contents count
    moved.write_text("users: 5\nexponent: 3.6\n")
    with pytest.raises(AnotherConfigError, match=r"network differ.*'exponent': 3\.5"):
        audit_network(make(network=str(moved), **quick))
    with pytest.raises(AnotherConfigError, match="seed differ"):
        audit_network(make(network="default", seed=1, **quick))


# --- Placements from a file -----------------------------------------------------------------------


@pytest.fixture
def metres(tmp_path: Path) -> Path:
    """300 placements of five users in hotspots [m]."""
    x = HotspotUsers(n_users=5).draw(300, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "u.npy", CellNetwork().to_metres(x.double()).numpy())
    return tmp_path / "u.npy"


def test_placements_of_a_file_take_the_place_of_the_law(
    make: Make, metres: Path, seeded_torch: None
) -> None:
    config = make(base=None, data=str(metres), train_steps=4, loss=("shortfall",))
    result = audit_network(config)
    (row,) = result.outages
    assert (result.data.path, result.data.n) == (str(metres), 300)
    assert len(result.data.sha256 or "") == 64
    assert known(row.estimates.tails[0].real).method == "real placements, counted"
    assert result.network is not None
    assert result.network.law == "that of 300 placements in a file"
    assert any("trained on nine tenths of these placements" in w for w in result.warnings)
    np.save(metres, np.load(metres)[::-1])
    with pytest.raises(AnotherConfigError, match="data_sha256 differ"):
        audit_network(config)


def test_too_few_placements_train_no_base(make: Make, metres: Path) -> None:
    np.save(metres, np.load(metres)[:99])
    with pytest.raises(CsiAuditError, match=r"u\.npy holds 99 placements; a base law is trained o"):
        audit_network(make(base=None, data=str(metres)))
    result = audit_network(make(data=str(metres), loss=("shortfall",)))
    assert result.warnings == ()


# --- Refusals -------------------------------------------------------------------------------------


def test_wrong_input_is_refused_before_anything_is_written(
    make: Make, metres: Path, tmp_path: Path, tiny_base: Path
) -> None:
    card = tmp_path / "six.yaml"
    card.write_text("users: 6\n")
    four = uniform_base(tmp_path / "four.safetensors", n_users=4)
    for changes, message in (
        ({"network": str(tmp_path / "no.yaml")}, r"network card .*no\.yaml does not exist"),
        ({"network": str(card)}, r"base .* is for 5 users, the network card for 6\. Leave --base"),
        ({"base": str(four)}, r"four\.safetensors is for 4 users, the network card for 5"),
        ({"base": str(tiny_base)}, r"is not a placement base of csi-audit .*Leave --base out"),
        ({"base": str(tmp_path / "none.safetensors")}, "does not exist"),
        ({"network": str(card), "data": str(metres)}, r"It has 5 users: say so in the card"),
        ({"at_least": 6}, r"at_least must be at most the 5 users of the card; got 6"),
    ):
        with pytest.raises(CsiAuditError, match=message):
            audit_network(make(**changes))
    assert not (tmp_path / "run").exists()


def test_a_base_of_placements_is_refused_for_channels(
    exact_base: Path, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--data", str(tiny.data), "--compressor", tiny.half, "--base", str(exact_base)]
    assert main([*words, "--out", str(tmp_path / "run")]) == EXIT_BAD_INPUT
    line = capsys.readouterr().err
    assert "is not a base model of csi-audit" in line
    assert "a base law of placements goes with --network" in line


# --- The command ----------------------------------------------------------------------------------


def test_the_command_shows_its_figures(
    exact_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--network", "default", "--base", str(exact_base), "--out",
             str(tmp_path / "run"), "--n_base", "60", "--block", "60", "--steps", "4",
             "--law_draws", "500", "--loss", "shortfall", "--device", "cpu",
             "--tail_method", "counting", "--mean_method", "reweighting"]  # fmt: skip
    assert main(words) == EXIT_OK
    out = capsys.readouterr().out
    assert "brute force" in out
    assert "3 or more of the 5 users have an SINR below 0 dB in" in " ".join(out.split())
    assert "E_q[l]" in out
    assert out.splitlines()[-1] == f"Report: {(tmp_path / 'run' / 'report.html').resolve()}"
    assert main(words) == EXIT_OK
    assert "This audit was finished before" in capsys.readouterr().out


def test_a_folder_is_named_by_the_card(make: Make) -> None:
    found = network_run_directory(make(out=None, network="cards/west.yaml"))
    assert found.parent == Path("runs")
    assert found.name.endswith("Z-network-west")
