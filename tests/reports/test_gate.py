"""Rules as they are written, and what passes, fails or cannot be told."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from channels.support import CsiAuditError
from reports import Result
from reports.estimates import Estimate, mean_estimate, proportion
from reports.gate import (
    GateLine,
    GateVerdict,
    gate_quantities,
    judged_changes,
    judged_rules,
    parse_rule,
    same_base_law,
    usable_status,
)
from reports.schema import Tail, Verdict
from reports.tail_schema import LossTail, TailPoint

pytestmark = pytest.mark.unit
RATE = "p_fail(nmse_db>-11)"


def small(
    result: Result, *, real: Estimate, base: Estimate, verdict: Verdict = "credible"
) -> Result:
    """One compressor with one failure probability."""
    row = result.compressors[0]
    tail = Tail(threshold="fixed", nmse_db=-11.0, base=base, real=real, agreement="agree")
    row = replace(row, estimates=replace(row.estimates, tails=(tail,)))
    return replace(result, compressors=(row,), base=replace(result.base, verdict=verdict))


def verdict_of(result: Result, rule: str, *, law: Literal["base", "real"] = "real") -> GateLine:
    (line,) = judged_rules(result, [parse_rule(rule, side="max", law=law)])
    return line


# --- Rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "quantity", "law", "limit"),
    [
        ("p_fail(nmse_db>-3)=1e-2", "p_fail(nmse_db>-3)", "real", 0.01),
        (" p_fail( nmse_db > −3.0 ) @base = 0.01", "p_fail(nmse_db>-3)", "base", 0.01),
        ("mean(nmse_db)=-6", "e_p(nmse_db)", "real", -6.0),
        ("quantile(nmse_db, 0.990)@real=-1", "quantile(nmse_db,0.99)", "real", -1.0),
        ("p_fail(own 99 % quantile)=0.02", "p_fail(own99%quantile)", "real", 0.02),
    ],
)
def test_rules_are_read(text: str, quantity: str, law: str, limit: float) -> None:
    rule = parse_rule(text, side="max", law="real")
    assert (rule.quantity, rule.law, rule.limit) == (quantity, law, limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_fail=1", r"max must be QUANTITY=LIMIT, .*got 'p_fail=1'\. Put it in quotes"),
        ("e_p(nmse)@sample=1", r"the law is @base or @real; got @sample"),
        ("e_p(nmse)=low", r"'low' of .* is no number"),
        ("e_p(nmse)=inf", r"limit of .* must be finite"),
    ],
)
def test_bad_rules_are_refused(text: str, message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        parse_rule(text, side="max", law="real")


# --- Limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "limit", "verdict"),
    [
        (5, 1000, 0.02, "pass"),  # [0.0016, 0.0116]
        (5, 1000, 0.01, "cannot tell"),  # the value keeps it, the interval does not
        (5, 1000, 0.001, "fail"),
        (0, 1000, 0.01, "pass"),  # none seen: its bound is 0.0037
        (0, 1000, 0.003, "cannot tell"),
    ],
)
def test_the_upper_end_decides(
    fake_result: Result, k: int, n: int, limit: float, verdict: GateVerdict
) -> None:
    result = small(fake_result, real=proportion(k, n), base=proportion(k, n))
    assert verdict_of(result, f"{RATE}={limit}").verdict == verdict


def test_lower_limits_are_judged_on_the_lower_end(fake_result: Result) -> None:
    sgcs = fake_result.compressors[0].losses["sgcs"].real
    assert sgcs is not None
    assert sgcs.interval is not None
    lo, hi = sgcs.interval
    expected = {lo - 0.01: "pass", (lo + hi) / 2: "cannot tell", hi + 0.01: "fail"}
    one = replace(fake_result, compressors=fake_result.compressors[:1])
    for limit, verdict in expected.items():
        (line,) = judged_rules(one, [parse_rule(f"e_p(sgcs)={limit}", side="min", law="real")])
        assert line.verdict == verdict


def test_decibels_are_those_of_the_linear_mean(fake_result: Result) -> None:
    row = fake_result.compressors[0]
    found = gate_quantities(fake_result, row)["e_p(nmse_db)"]["real"]
    assert found.value == pytest.approx(row.mean_db("real"))


def test_quantiles_come_from_the_tail_curve(fake_result: Result) -> None:
    level = Estimate(value=-1.0, interval=(-1.2, -0.8), n=100, method="made up")
    point = TailPoint(probability=0.01, base=level, real=None)
    curve = LossTail(method="made up", runs=None, n_evaluations=None, points=(point,))
    row = fake_result.compressors[0]
    row = replace(row, estimates=replace(row.estimates, curve=curve))
    result = replace(fake_result, compressors=(row,))
    result = replace(result, base=replace(result.base, verdict="credible"))
    assert verdict_of(result, "quantile(nmse_db,0.99)@base=-0.5").verdict == "pass"
    with pytest.raises(CsiAuditError, match=r"under the law base alone; got @real"):
        verdict_of(result, "quantile(nmse_db,0.99)=-0.5")


@pytest.mark.parametrize("verdict", ["misses", "not checked", "cannot tell"])
def test_a_base_law_that_is_not_credible_passes_nothing(
    fake_result: Result, verdict: Verdict
) -> None:
    few = proportion(1, 1000)
    result = small(fake_result, real=few, base=few, verdict=verdict)
    line = verdict_of(result, f"{RATE}@base=0.5")
    assert line.verdict == "cannot tell"
    assert "base law" in line.words
    rule = parse_rule(f"{RATE}@base=0.5", side="max", law="real")
    assert judged_rules(result, [rule], trust_base=True)[0].verdict == "pass"
    assert verdict_of(result, f"{RATE}=0.5").verdict == "pass"  # counted on real channels


def test_a_status_that_is_not_ok_passes_nothing(fake_result: Result) -> None:
    uneven = replace(proportion(1, 1000), status="weights too uneven: 3.1 effective samples")
    result = small(fake_result, real=uneven, base=uneven)
    line = verdict_of(result, f"{RATE}=0.5")
    assert line.verdict == "cannot tell"
    assert line.text().startswith("CANNOT TELL: ")
    assert line.text().endswith("weights too uneven: 3.1 effective samples")
    assert usable_status(proportion(3, 3)) == ""
    pointless = replace(uneven, status="ok", interval=None)
    assert (
        "there is no interval"
        in verdict_of(small(fake_result, real=pointless, base=pointless), f"{RATE}=0.5").words
    )


def test_what_the_result_lacks_is_refused_with_what_it_has(fake_result: Result) -> None:
    with pytest.raises(
        CsiAuditError,
        match=r"no p_fail\(nmse_db>-12\) .* Did you mean 'p_fail\(nmse_db>-11\)'\? It has: .*"
        r"e_p\(nmse_db\).*--tau_db LEVEL",
    ):
        verdict_of(fake_result, "p_fail(nmse_db>-12)=0.1")
    with pytest.raises(CsiAuditError, match=r"no cvar\(nmse_db,0.99\)"):
        verdict_of(fake_result, "cvar(nmse_db,0.99)=0.1")


# --- Against an older result ----------------------------------------------------------------------


def changes(new: Result, old: Result) -> dict[str, str]:
    return {line.rule.partition(" since")[0]: line.verdict for line in judged_changes(new, old)}


def test_a_result_is_the_same_as_itself(fake_result: Result) -> None:
    lines = judged_changes(fake_result, fake_result)
    assert {line.verdict for line in lines} == {"same"}
    assert {line.compressor for line in lines} == {row.name for row in fake_result.compressors}


@pytest.mark.parametrize(
    ("then", "now", "verdict"),
    [
        ((300, 20_000), (600, 20_000), "worse"),
        ((600, 20_000), (300, 20_000), "better"),
        ((600, 20_000), (601, 20_000), "same"),
        ((3, 1000), (5, 1000), "cannot tell"),
    ],
)
def test_changes_of_a_probability(
    fake_result: Result, then: tuple[int, int], now: tuple[int, int], verdict: str
) -> None:
    old, new = (
        small(fake_result, real=proportion(*counts), base=proportion(*counts))
        for counts in (then, now)
    )
    assert changes(new, old)[f"{RATE}@real"] == verdict


def test_figures_under_other_base_laws_are_not_compared(fake_result: Result) -> None:
    old = small(fake_result, real=proportion(300, 20_000), base=proportion(300, 20_000))
    assert {f"{RATE}@base", f"{RATE}@real"} <= changes(old, old).keys()
    for other in (replace(old, base=replace(old.base, sha256="f" * 64)),
                  replace(old, audited_law="another chain")):  # fmt: skip
        assert not same_base_law(other, old)
        assert f"{RATE}@base" not in changes(other, old)
        assert f"{RATE}@real" in changes(other, old)


def test_sgcs_is_worse_when_lower(fake_result: Result) -> None:
    def with_sgcs(mean: float) -> Result:
        row = fake_result.compressors[0]
        values = mean + 0.01 * np.sin(np.arange(500.0))
        loss = replace(row.losses["sgcs"], real=mean_estimate(values))
        return replace(
            fake_result, compressors=(replace(row, losses={**row.losses, "sgcs": loss}),)
        )

    assert changes(with_sgcs(0.7), with_sgcs(0.8))["e_p(sgcs)@real"] == "worse"
    assert changes(with_sgcs(0.9), with_sgcs(0.8))["e_p(sgcs)@real"] == "better"


def test_pairing_tells_smaller_changes(fake_result: Result) -> None:
    rng = np.random.default_rng(0)
    then = 0.1 * np.exp(rng.standard_normal(1000))
    row = fake_result.compressors[0]

    def with_nmse(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Result:
        nmse = replace(row.losses["nmse"], real=mean_estimate(values))
        return replace(
            fake_result, compressors=(replace(row, losses={**row.losses, "nmse": nmse}),)
        )

    def told(factor: float, *, paired: bool) -> str:
        now = then * factor * np.exp(0.01 * rng.standard_normal(1000))
        pairs = {row.name: (now, then)} if paired else None
        lines = judged_changes(with_nmse(now), with_nmse(then), paired=pairs)
        return next(line.verdict for line in lines if line.rule.startswith("e_p(nmse)@real"))

    assert told(1.05, paired=False) == "cannot tell"
    assert told(1.05, paired=True) == "worse"
    assert told(0.95, paired=True) == "better"
    assert told(1.001, paired=True) == "same"


def test_compressors_that_come_and_go(fake_result: Result) -> None:
    first = replace(fake_result, compressors=fake_result.compressors[:1])
    rest = replace(fake_result, compressors=fake_result.compressors[1:])
    gone = [line for line in judged_changes(first, fake_result) if line.rule == "is gone"]
    assert [line.verdict for line in gone] == ["cannot tell"] * 2
    with pytest.raises(CsiAuditError, match="there is nothing to compare"):
        judged_changes(first, rest)
