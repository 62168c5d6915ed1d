"""The report of a cell network: words on the first screen, escaping, missing parts, files."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from channels.network import CellNetwork
from channels.placement_domain import PLACEMENT_FEATURES, PlacementDomain
from channels.support import CsiAuditError
from reports.estimates import Estimate, agree, mean_estimate, proportion, quantile_estimate
from reports.loss_schema import ImportanceEstimates, LossSummary, Tail, Threshold
from reports.mode_words import mode_section
from reports.network_page import network_html, write_network_report
from reports.network_schema import NetworkInfo, OutageRow
from reports.network_tables import network_markdown, outage_cells
from reports.network_words import leading_tail, network_answer, network_nouns
from reports.nouns import LAW_DRAWS
from reports.placement_arrays import PlacementArrays
from reports.placement_gallery import named_placement_figures
from reports.placement_modes import modes_of_placements
from reports.realism import base_item, base_verdict
from reports.reweighting import weighted_mean
from reports.schema import BaseInfo, Cost, DataInfo, Result
from reports.stratify import worst_features
from reports.tail_schema import LossTail, TailPoint
from tests.reports.test_page_layout import HOSTILE, checked, needs_browser

Array = npt.NDArray[np.float64]

NETWORK = CellNetwork()
N_BASE, N_REAL, N_USERS, RANK = 600, 900, 5, 2
NASTY = "<script>alert('x')</script> & \"ü\" |*`$x$"
UNITS = {"expected_outage": "1", "shortfall_db": "dB"}
LABELS = {"expected_outage": "expected outage", "shortfall_db": "shortfall of the 2nd worst user"}
TAU = {"expected_outage": 0.3, "shortfall_db": 0.0}


def losses(x: npt.NDArray[np.float32]) -> dict[str, Array]:
    """Expected share of unserved users, and the shortfall of the second worst [dB]."""
    if not len(x):
        return {}
    users = torch.from_numpy(x)
    short = (NETWORK.threshold_db - NETWORK.sinr_db(users)).topk(RANK, dim=1).values[:, -1]
    out = 1 - NETWORK.served(users).mean(1)
    return {"expected_outage": out.double().numpy(), "shortfall_db": short.double().numpy()}


def features(x: npt.NDArray[np.float32]) -> dict[str, Array]:
    found = PlacementDomain(n_users=N_USERS, network=NETWORK).features(torch.from_numpy(x))
    return {name: value.double().numpy() for name, value in found.items()} if len(x) else {}


def make_arrays(n_real: int = N_REAL) -> PlacementArrays:
    random = np.random.default_rng(0)
    x, real = (random.uniform(-1, 1, (n, N_USERS, 2)).astype(np.float32) for n in (N_BASE, n_real))
    base = losses(x)
    return PlacementArrays(
        network=NETWORK, x_base=x, log_w=np.zeros(N_BASE), x_real=real, losses_base=base,
        losses_real=losses(real),
        log_l={"expected_outage": np.log(0.01 + base["expected_outage"]),
               "shortfall_db": -np.logaddexp(0, -base["shortfall_db"])},
        features_base=features(x), features_real=features(real), tau=TAU,
    )  # fmt: skip


def counted(values: Array | None, level: float) -> Estimate | None:
    return None if values is None else proportion(int((values > level).sum()), len(values))


def make_row(arrays: PlacementArrays, name: str, tau: float) -> OutageRow:
    base, real = arrays.losses_base[name], arrays.losses_real.get(name)
    p, q = counted(base, tau), counted(real, tau)
    unit = UNITS[name]
    label = f"{tau:g} dB".replace("-", "−") if unit == "dB" else f"{tau:g}"
    points = tuple(
        TailPoint(probability=10.0**-k, base=quantile_estimate(base, 1 - 10.0**-k), real=None)
        for k in (1, 2)
    )
    row = OutageRow(
        name=name, label=LABELS[name], unit=unit, worse="high",
        definition=f"The {LABELS[name]}, in a sentence.",
        losses={name: LossSummary(unit=unit, worse="high", base=mean_estimate(base),
                                  real=None if real is None else mean_estimate(real))},
        estimates=ImportanceEstimates(
            loss="L", weight="0.01 + L", e_p=mean_estimate(base),
            e_q=weighted_mean(np.exp(arrays.log_l[name]), arrays.log_l[name]),
            tails=(Tail(threshold=label, nmse_db=None, level=tau, base=p, real=q,
                        agreement=agree(p, q)),),
            curve=LossTail(method="counted", runs=None, n_evaluations=9, points=points),
        ),
        worst=() if real is None else worst_features(
            real, arrays.features_real, source="real", share=0.02, info=PLACEMENT_FEATURES
        ),
    )  # fmt: skip
    modes, strata = modes_of_placements(row, replace(arrays, tau={name: tau}), seed=0)
    return replace(row, modes=modes, strata=strata)


def make_result(arrays: PlacementArrays, tau: dict[str, float] = TAU) -> Result:
    """An audit as the engine would hand it over."""
    both = [name for name in tau if name in arrays.losses_real]
    items = tuple(
        base_item(n, arrays.losses_base[n], arrays.losses_real[n], kind="distortion",
                  label=LABELS[n]) for n in both
    )  # fmt: skip
    items += tuple(
        base_item(n, arrays.features_base[n], values, kind="feature",
                  label=PLACEMENT_FEATURES[n].label)
        for n, values in arrays.features_real.items()
    )  # fmt: skip
    n_real = len(arrays.x_real)
    return Result(
        created="2026-01-02T03:04:05Z", versions={"csi-audit": "0.1.0"}, seed=7,
        data=DataInfo(path="law: uniform", sha256=None, n=n_real, description="draws of the law"),
        base=BaseInfo(sha256="cd" * 32, verdict=base_verdict(items), name="trained for this run",
                      n_samples=N_BASE),
        tau=(
            Threshold(label="0.3", nmse_db=None, level=0.3, origin="one level"),
            Threshold(label="0 dB", nmse_db=None, level=0.0,
                      origin="2 or more of the 5 users have an SINR below 0 dB"),
        ),
        compressors=(), realism=items, cost=Cost(denoiser_evaluations=900, seconds=3.0),
        warnings=("Trained for a short time.",), audited_law="2M ODE, 30 steps",
        network=NetworkInfo(
            description="3 base stations, 5 users.", area_m=NETWORK.area_m,
            stations_m=NETWORK.stations_m, n_users=N_USERS, law="uniform", at_least=RANK,
            exponent=NETWORK.exponent, power_w=1.0, epsilon=1.0, noise_w=NETWORK.noise_w,
            threshold_db=NETWORK.threshold_db, steepness=1.0, scale="db", load=(1.0, 0.5, 1.0),
        ),
        outages=tuple(make_row(arrays, name, level) for name, level in tau.items()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def arrays() -> PlacementArrays:
    return make_arrays()


@pytest.fixture(scope="module")
def result(arrays: PlacementArrays) -> Result:
    return make_result(arrays)


@pytest.fixture(scope="module")
def written(
    result: Result, arrays: PlacementArrays, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The report with its figures, written once."""
    return write_network_report(result, arrays, tmp_path_factory.mktemp("run"))


def first_screen(page: str) -> str:
    """The page up to the evidence, tags removed."""
    body = page.split('<h2 id="evidence">')[0].split("</style>")[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


# --- The page -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.unit
def test_report_is_whole_small_and_needs_no_network(result: Result, written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert (written.name, written.stat().st_size < 5_000_000) == ("report.html", True)
    assert page.startswith("<!DOCTYPE html>\n")
    assert set(re.findall(r'<img src="([^"]{0,22})', page)) == {"data:image/png;base64,"}
    assert not re.findall(r"https?://|<script|<link|@import|url\(", page)
    assert " nan" not in page.lower()
    assert "None" not in page
    modes = {
        f"mode-{k + 1}{kind}-{tag}"
        for row, tag in zip(result.outages, ("1-expected-outage", "2-shortfall-db"), strict=True)
        if row.modes is not None
        for k in range(min(len(row.modes.modes), 3))
        for kind in ("", "-exemplars")
    }
    files = {file.stem for file in (written.parent / "figures").iterdir()}
    assert modes
    assert files == modes | {
        "network", "overview", "realism-distortion", "realism-feature",
        *(f"{kind}-{tag}" for kind in ("users", "loss", "strata")
          for tag in ("1-expected-outage", "2-shortfall-db")),
    }  # fmt: skip
    assert all(file.stat().st_size > 5_000 for file in (written.parent / "figures").iterdir())
    assert page.count('class="wide" tabindex="0"') == page.count('class="wide"') > 5


@pytest.mark.unit
def test_the_page_opens_with_the_answer_and_keeps_its_order(result: Result) -> None:
    page = network_html(result)
    screen = first_screen(page)
    for sentence in network_answer(result):
        assert sentence in screen.replace("&#39;", "'").replace("&#34;", '"')
    ids = re.findall(r'<h[23] id="([a-z]+)"', page)
    assert ids == ["network", "modes", "evidence", "realism", "method", "provenance", "warnings",
                   "limits"]  # fmt: skip
    assert screen.index("2 or more of the 5 users") < screen.index("P(beyond threshold)")
    assert "the others transmit a share 1, 0.5, 1 of the time" in page


@pytest.mark.unit
def test_the_answer_says_what_where_and_whether_to_believe(result: Result) -> None:
    what, where, whether = network_answer(result)
    tail = result.outages[1].estimates.tails[0]
    assert tail.real is not None
    assert what.startswith(
        f"2 or more of the 5 users have an SINR below 0 dB in {100 * tail.real.value:.1f} % ["
    )
    assert f"of {N_REAL:,} draws of the law and" in what
    assert f"of {N_BASE:,} base samples." in what
    assert " of these failures are of one " in where
    assert "users without service stand" in where
    assert whether.startswith("The base law cannot be told from the draws of the law: losses on")


@pytest.mark.unit
def test_the_table_has_a_row_a_loss_and_threshold(result: Result) -> None:
    first = result.outages[0]
    tails = (*first.estimates.tails, replace(first.estimates.tails[0], threshold="own 99 %"))
    doubled = replace(first, estimates=replace(first.estimates, tails=tails))
    columns, rows = outage_cells(replace(result, outages=(doubled, result.outages[1])))
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[0].text for row in rows] == ["expected outage"] * 2 + [LABELS["shortfall_db"]]
    assert (rows[0][1].text, rows[1][1].detail) == ("> 0.3", "own 99 %")
    assert [cell.text == "" for cell in rows[1][5:]] == [True] * 3  # the loss's, said above
    assert rows[2][5].text.startswith("−")
    text = network_markdown(result)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "- Failure mode: Shortfall of the 2nd worst user above 0 dB: " in text


@pytest.mark.unit
def test_a_rare_failure_is_said_as_one_in_so_many(result: Result) -> None:
    rare = Estimate(value=2e-7, interval=(1e-7, 3e-7), n=10, method="subset simulation")
    row = result.outages[1]
    tail = replace(row.estimates.tails[0], base=rare, counted=proportion(0, N_BASE))
    deep = replace(row, estimates=replace(row.estimates, tails=(tail,)))
    told = replace(result, outages=(deep,))
    assert "of the base law, 1 in 5,000,000." in network_answer(told)[0]
    assert "†" in outage_cells(told)[1][0][3].text
    page = network_html(told)
    assert "† by subset simulation" in page
    assert "- † by subset simulation, not counted on the base samples.\n" in network_markdown(told)
    assert "†" not in network_markdown(result)
    modes = replace(deep.modes or pytest.fail("no modes"), rate_base=rare)
    lines = mode_section(replace(deep, modes=modes), LAW_DRAWS, "beyond").lines
    assert lines[0].endswith("of the base law.")


# --- Missing parts --------------------------------------------------------------------------------


@pytest.mark.unit
def test_zero_failures_still_give_a_page(arrays: PlacementArrays) -> None:
    calm = make_result(arrays, {"shortfall_db": 40.0})
    calm = replace(calm, tau=())
    what, where, _ = network_answer(calm)
    assert f"none of {N_REAL:,} draws of the law (below" in what
    assert where == (
        "Where users sit when it fails cannot be told. No base sample fails at this threshold."
    )
    page = network_html(calm)
    assert "No base sample fails at this threshold." in page
    assert "0 %, 0 %" not in page
    names = [name for name, _ in named_placement_figures(calm, arrays)]
    assert not [name for name in names if name.startswith("mode")]


@pytest.mark.slow
@pytest.mark.unit
def test_one_loss_and_no_real_side_still_give_a_page() -> None:
    bare = make_arrays(n_real=0)
    alone = make_result(bare, {"expected_outage": 0.3})
    screen = first_screen(network_html(alone))
    assert "The base law was not checked against draws of the law" in screen
    assert "Expected outage above 0.3 in" in screen
    assert f"of {N_BASE:,} base samples." in screen
    assert "no draws of the law" in screen
    assert "unknown" in screen
    names = [name for name, _ in named_placement_figures(alone, bare)]
    assert "mode-1-exemplars-1-expected-outage" in names
    assert not [name for name in names if name.startswith("realism")]


@pytest.mark.unit
def test_an_empty_audit_and_one_without_arrays_still_give_a_page(result: Result) -> None:
    empty = replace(result, outages=(), realism=(), tau=(), warnings=(), network=None, seed=None)
    page = network_html(empty)
    assert "No loss was audited." in page
    assert "nothing was counted" in page
    assert leading_tail(empty) is None
    names = [name for name, _ in named_placement_figures(result, None)]
    assert names == ["overview", "strata-1-expected-outage", "strata-2-shortfall-db"]


@pytest.mark.unit
def test_a_file_of_placements_has_words_of_its_own(result: Result) -> None:
    measured = replace(result, data=replace(result.data, sha256="ab" * 32, path="/x/users.npy"))
    assert network_nouns(measured).real == "real placements"
    page = network_html(measured)
    assert "draws of the law" not in page.replace("draws of the law</dd>", "").split("Provenance")[
        0
    ].replace(result.data.description, "")
    assert "No real placements were given" not in page
    assert "No real placements were given" in network_html(result)


@pytest.mark.unit
def test_a_base_that_misses_is_said_so(result: Result) -> None:
    far = replace(result.realism[0], ks=0.4, verdict="off")
    bad = replace(
        result, realism=(far, *result.realism[1:]), base=replace(result.base, verdict="misses")
    )
    said = network_answer(bad)[2]
    assert said.startswith("The base law misses the draws of the law: losses on its samples")
    assert "trust the one counted on draws of the law." in said
    page = network_html(bad)
    assert 'class="answer misses"' in page
    assert "Amber: figures on base samples, which miss the draws of the law" in page


# --- Hostile names, files -------------------------------------------------------------------------


def nasty(result: Result, text: str) -> Result:
    """Every string from outside replaced."""
    network: Any = result.network
    rows = tuple(
        replace(row, label=text, definition=text,
                estimates=replace(row.estimates, weight=text, loss=text))
        for row in result.outages
    )  # fmt: skip
    return replace(
        result, outages=rows, warnings=(text,), notes=(text,), audited_law=text,
        data=replace(result.data, path=text, description=text, notices=(text,), convention=text),
        base=replace(result.base, name=text, rule=text),
        network=replace(network, description=text, law=text, propagation=text),
        tau=tuple(replace(t, origin=text) for t in result.tau), versions={text: text},
        cost=Cost(parts={text: 3}, denoiser_evaluations=3, machine=text),
        realism=tuple(replace(item, label=text) for item in result.realism),
    )  # fmt: skip


@pytest.mark.unit
def test_names_from_outside_are_escaped(result: Result) -> None:
    page = network_html(nasty(result, NASTY))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;") > 20
    assert "<script" not in network_markdown(nasty(result, NASTY))


@pytest.mark.unit
def test_an_unwritable_folder_is_one_line(result: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CsiAuditError, match=r"file/run cannot be written: Not a directory"):
        write_network_report(replace(result, outages=()), None, tmp_path / "file" / "run")


# --- In a browser ---------------------------------------------------------------------------------


@needs_browser
@pytest.mark.end_to_end
@pytest.mark.slow
def test_network_report_fits_phone_and_desk(written: Path) -> None:
    checked(written, pictures=True)


@needs_browser
@pytest.mark.end_to_end
@pytest.mark.slow
def test_hostile_names_break_no_layout(result: Result, tmp_path: Path) -> None:
    page = write_network_report(nasty(result, HOSTILE), None, tmp_path)
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    checked(page, pictures=True)
