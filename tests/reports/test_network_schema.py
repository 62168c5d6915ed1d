"""What a result says of a network: round trip, keys, schema, and rules of the gate."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channels.support import CsiAuditError
from reports import KEYS, load_result
from reports.estimates import Estimate, mean_estimate, proportion
from reports.gate import gate_quantities, judged_changes, judged_rules, parse_rule
from reports.json_schema import schema_texts
from reports.network_keys import NETWORK_KEYS
from reports.network_schema import NetworkInfo, OutageRow
from reports.schema import (
    BaseInfo,
    DataInfo,
    ImportanceEstimates,
    LossSummary,
    Result,
    Tail,
    Threshold,
)
from reports.tail_schema import LossTail, TailPoint

pytestmark = pytest.mark.unit

INFO = NetworkInfo(
    description="Two stations.",
    area_m=(100.0, 50.0),
    stations_m=((0.0, 0.0), (100.0, 50.0)),
    n_users=5,
    law="uniform",
    at_least=3,
    exponent=3.5,
    power_w=1.0,
    epsilon=1.0,
    noise_w=1e-7,
    threshold_db=0.0,
    steepness=1.0,
    scale="db",
    load=(1.0, 0.5),
)


def tail(threshold: str, level: float, beyond: int) -> Tail:
    found = proportion(beyond, 10_000)
    return Tail(threshold=threshold, nmse_db=None, level=level, base=found, real=found,
                agreement="agree")  # fmt: skip


def row(name: str, unit: str, tails: tuple[Tail, ...], mean: Estimate) -> OutageRow:
    point = TailPoint(probability=0.01, base=mean, real=None)
    curve = LossTail(method="counted", runs=None, n_evaluations=1, points=(point,))
    return OutageRow(
        name=name,
        label=name.replace("_", " "),
        unit=unit,
        worse="high",
        definition="A loss.",
        losses={name: LossSummary(unit=unit, worse="high", base=mean, real=mean)},
        estimates=ImportanceEstimates(
            loss=name, weight="l", e_p=mean, e_q=mean, tails=tails, curve=curve
        ),
    )


@pytest.fixture
def result() -> Result:
    low = mean_estimate([0.1, 0.2, 0.3])
    return Result(
        created="2026-01-02",
        versions={},
        seed=0,
        data=DataInfo(path="law: uniform", sha256=None, n=10_000),
        base=BaseInfo(sha256="aa", verdict="credible"),
        tau=(
            Threshold(label="own 99 % quantile", nmse_db=None, origin=""),
            Threshold(label="0.5", nmse_db=None, origin="", level=0.5),
            Threshold(label="0 dB", nmse_db=None, origin="", level=0.0),
        ),
        compressors=(),
        network=INFO,
        outages=(
            row("joint_outage", "1", (tail("own 99 % quantile", 0.4, 100), tail("0.5", 0.5, 50)),
                low),
            row("shortfall_db", "dB", (tail("own 99 % quantile", 0.2, 100), tail("0 dB", 0.0, 120)),
                mean_estimate([-8.0, -7.0, -6.0])),
        ),
    )  # fmt: skip


# --- The file -------------------------------------------------------------------------------------


def test_a_networks_result_survives_the_file(result: Result, tmp_path: Path) -> None:
    result.save(tmp_path)
    assert load_result(tmp_path) == result


def test_results_from_before_networks_still_load(fake_result: Result, tmp_path: Path) -> None:
    plain = json.loads(fake_result.to_json())
    del plain["network"], plain["outages"]
    for tau in plain["tau"]:
        del tau["level"]
    for compressor in plain["compressors"]:
        for one in compressor["estimates"]["tails"]:
            del one["level"]
    (tmp_path / "result.json").write_text(json.dumps(plain))
    assert load_result(tmp_path) == fake_result


def test_a_tail_is_of_an_nmse_or_of_another_loss(fake_result: Result, result: Result) -> None:
    nmse = fake_result.compressors[0].estimates.tails[0]
    assert nmse.tau_db == nmse.nmse_db
    with pytest.raises(ValueError, match="0 dB is no threshold of an NMSE; see level"):
        _ = result.outages[1].estimates.tails[1].tau_db


def test_losses_share_their_sentences_with_compressors() -> None:
    assert set(NETWORK_KEYS) <= set(KEYS)
    of_losses = {key: text for key, text in KEYS.items() if key.startswith("outages[].")}
    assert len(of_losses) > 100
    for key, text in of_losses.items():
        assert "NMSE" not in text, key
        assert "compressor" not in text, key
        assert "channel" not in text.replace("'no real channels'", ""), key
    assert KEYS["outages[].estimates.tails[].base"].startswith("P(L > tau) under the base law")


def test_the_published_schema_describes_a_network(result: Result) -> None:
    schema: dict[str, Any] = json.loads(schema_texts()["result.schema.json"])
    network = schema["properties"]["network"]["anyOf"][0]
    plain = json.loads(result.to_json())["network"]
    assert set(network["properties"]) == set(plain)
    assert set(network["required"]) == set(plain) - {"propagation"}
    assert schema["properties"]["outages"]["items"]["properties"]["unit"]["type"] == "string"


# --- The gate -------------------------------------------------------------------------------------


def test_quantities_go_by_the_name_of_the_loss(result: Result) -> None:
    joint, shortfall = result.outages
    assert set(gate_quantities(result, joint)) == {
        "p_fail(joint_outage>own99%quantile)",
        "p_fail(joint_outage>0.5)",
        "e_p(joint_outage)",
        "e_q(joint_outage)",
        "quantile(joint_outage,0.99)",
    }
    assert set(gate_quantities(result, shortfall)) >= {
        "p_fail(shortfall_db>0)",
        "quantile(shortfall_db,0.99)",
    }


@pytest.mark.parametrize(
    ("rule", "loss", "verdict"),
    [
        ("p_fail(shortfall_db>0)=0.02", "shortfall_db", "pass"),
        ("p_fail(shortfall_db > 0.0)@base = 1e-4", "shortfall_db", "fail"),
        ("p_fail(joint_outage>0.5)=0.005", "joint_outage", "cannot tell"),
        ("p_fail(joint_outage>own 99 % quantile)@base=0.02", "joint_outage", "pass"),
        ("e_p(joint_outage)=2", "joint_outage", "pass"),
    ],
)
def test_a_rule_is_judged_on_the_loss_it_names(
    rule: str, loss: str, verdict: str, result: Result
) -> None:
    (line,) = judged_rules(result, [parse_rule(rule, side="max", law="real")])
    assert (line.compressor, line.verdict) == (loss, verdict)


def test_a_rule_that_no_loss_has(result: Result) -> None:
    rule = parse_rule("p_fail(joint_outage>0.6)=1", side="max", law="real")
    message = (
        r"no p_fail\(joint_outage>0\.6\)\. Did you mean 'p_f.* It has: e_p\(joint_outage\).*"
        r"run: --tau LEVEL, or --tau_db LEVEL"
    )
    with pytest.raises(CsiAuditError, match=message):
        judged_rules(result, [rule])
    only_base = parse_rule("e_q(joint_outage)=1", side="max", law="real")
    with pytest.raises(CsiAuditError, match=r"under the law base alone"):
        judged_rules(result, [only_base])


def test_changes_since_an_older_result(result: Result) -> None:
    joint, shortfall = result.outages
    worse = row("shortfall_db", "dB", (tail("0 dB", 0.0, 1200),), mean_estimate([-3.0, -2.0]))
    lines = judged_changes(replace(result, outages=(joint, worse)), result)
    told = {(line.compressor, line.rule.split("@")[0]): line.verdict for line in lines}
    assert told["shortfall_db", "p_fail(shortfall_db>0)"] == "worse"
    assert told["joint_outage", "p_fail(joint_outage>0.5)"] == "same"
    assert not any("own99%quantile" in rule or "e_p(shortfall" in rule for _, rule in told)
    (gone, *_) = judged_changes(replace(result, outages=(shortfall,)), result)
    assert (gone.verdict, gone.compressor) == ("cannot tell", "joint_outage")
