"""Limits on the figures of a result, and a result against an older one, for continuous integration.

A rule is "quantity=limit", such as p_fail(nmse_db>-3)=1e-2, with @base or @real behind the quantity
if a law is meant that is not the default. Of a network's audit a rule names the loss it is judged
on, p_fail(shortfall_db>0)=1e-4. It is judged on the end of the interval that could still break it:
what is not known well enough does not pass.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from channels.support import CsiAuditError, did_you_mean
from reports.comparison_estimates import paired_mean_db, probability_difference
from reports.estimates import Estimate, agree
from reports.network_schema import OutageRow
from reports.schema import CompressorRow, LossSummary, Result
from reports.words import joined

Array = npt.NDArray[np.float64]
Law = Literal["base", "real"]
GateVerdict = Literal["pass", "fail", "cannot tell", "better", "same", "worse"]

SAME_DB = 0.1
"""Change of a mean NMSE [dB] below which it counts as the same."""

SAME_FACTOR = 2.0
"""Change of a probability, as a factor, below which it counts as the same."""

_RULE = re.compile(r"^\s*([a-z_]+)\s*\((.*)\)\s*(?:@\s*([a-z]+))?\s*=\s*(\S+)\s*$")


@dataclass(frozen=True, kw_only=True)
class GateRule:
    """A limit on one quantity: at most, or at least, `limit`."""

    quantity: str
    law: Law
    limit: float
    side: Literal["max", "min"]

    def words(self) -> str:
        """`p_fail(nmse_db>-3)@real <= 0.01`."""
        sign = "<=" if self.side == "max" else ">="
        return f"{self.quantity}@{self.law} {sign} {self.limit:g}"


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """What was found for one compressor or loss under one rule, or since an older result."""

    verdict: GateVerdict
    compressor: str
    rule: str
    words: str

    def text(self) -> str:
        """The line that is printed."""
        return f"{self.verdict.upper()}: {self.compressor}: {self.rule}: {self.words}"


def parse_rule(text: str, *, side: Literal["max", "min"], law: Law) -> GateRule:
    """A rule from "quantity=limit".

    Args:
        text: As given.
        side: Whether the limit is the largest or the smallest value that passes.
        law: Of rules that name none.
    Raises:
        CsiAuditError: it has another form, another law, or a limit that is no number.
    """
    found = _RULE.match(text)
    if found is None:
        raise CsiAuditError(
            f"{side} must be QUANTITY=LIMIT, such as 'p_fail(nmse_db>-3)=1e-2'; got {text!r}. Put "
            "it in quotes, since the shell reads > and (."
        )
    if found[3] not in (None, "base", "real"):
        raise CsiAuditError(f"{side}: the law is @base or @real; got @{found[3]} in {text!r}.")
    try:
        limit = float(found[4])
    except ValueError as error:
        raise CsiAuditError(f"{side}: {found[4]!r} of {text!r} is no number.") from error
    if not math.isfinite(limit):
        raise CsiAuditError(f"{side}: the limit of {text!r} must be finite.")
    named: Law = law if found[3] is None else "base" if found[3] == "base" else "real"
    return GateRule(
        quantity=_canonical(f"{found[1]}({found[2]})"), law=named, limit=limit, side=side
    )


def _canonical(quantity: str) -> str:
    """Without spaces, numbers in one form: p_fail(nmse_db>-3.0) is p_fail(nmse_db>-3)."""
    plain = "".join(quantity.split()).lower().replace("−", "-").replace("mean(", "e_p(", 1)
    return re.sub(
        r"(?<=[>,])[-+0-9.e]+(?=\))", lambda number: _number(number[0]), plain
    )  # what stands after > or a comma


def _number(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


# --- What a result has ----------------------------------------------------------------------------


def gate_quantities(
    result: Result, row: CompressorRow | OutageRow
) -> dict[str, dict[Law, Estimate]]:
    """Every quantity of one compressor, or loss of a network, that a rule may name, by law.

    A threshold that each has for itself goes by its label; it is a quantile of the real channels,
    so under their law there is nothing to ask.
    """
    found: dict[str, dict[Law, Estimate | None]] = {}
    own = {tau.label for tau in result.tau if tau.nmse_db is None and tau.level is None}
    is_loss = isinstance(row, OutageRow)
    of_tails = row.name if isinstance(row, OutageRow) else "nmse_db"
    for tail in row.estimates.tails:
        level = f"{of_tails}>{tail.level if is_loss else tail.nmse_db:.6g}"
        if tail.threshold in own:
            level = f"{row.name}>{tail.threshold}" if is_loss else tail.threshold
        real = None if tail.threshold in own else tail.real
        found[_canonical(f"p_fail({level})")] = {"base": tail.base, "real": real}
    for name, loss in row.losses.items():
        found[f"e_p({name})"] = {"base": loss.base, "real": loss.real}
    for point in () if row.estimates.curve is None else row.estimates.curve.points:
        key = f"quantile({of_tails},{1 - point.probability:.9g})"
        found[key] = {"base": point.base, "real": point.real}
    found |= (
        _linear_loss(row)
        if isinstance(row, CompressorRow)
        else {f"e_q({row.name})": {"base": row.estimates.e_q}}
    )
    known = {key: {law: e for law, e in laws.items() if e} for key, laws in found.items()}
    return {key: laws for key, laws in known.items() if laws}


def _linear_loss(row: CompressorRow) -> dict[str, dict[Law, Estimate | None]]:
    """Means of a compressor's linear loss, in dB too."""
    found: dict[str, dict[Law, Estimate | None]] = {}
    nmse = row.losses.get("nmse")
    if nmse is not None:
        found["e_p(nmse_db)"] = {"base": _decibels(nmse.base), "real": _decibels(nmse.real)}
    e_q, loss_name = row.estimates.e_q, row.estimates.loss.lower()
    return found | {
        f"e_q({loss_name})": {"base": e_q},
        f"e_q({loss_name}_db)": {"base": _decibels(e_q)},
    }


def _decibels(estimate: Estimate | None) -> Estimate | None:
    """A linear figure in dB; None where it is not positive."""
    if estimate is None or estimate.value <= 0:
        return None
    lo, hi = estimate.interval or (None, None)
    interval = None
    if hi is not None and lo is not None and lo > 0:
        interval = (10 * math.log10(lo), 10 * math.log10(hi))
    value = 10 * math.log10(estimate.value)
    return replace(estimate, value=value, std_error=None, interval=interval)


# --- Limits ---------------------------------------------------------------------------------------


def judged_rules(
    result: Result, rules: Sequence[GateRule], *, trust_base: bool = False
) -> list[GateLine]:
    """A line for every rule and compressor; of a network, for every rule and the loss it names.

    Args:
        result: With at least one compressor or loss.
        rules: Limits.
        trust_base: Whether figures under the base law count though the realism gate did not find
            it credible.
    Raises:
        CsiAuditError: a rule names what the result does not have; lists what it has.
    """
    lines = []
    for rule in rules:
        for row in _judged_rows(result, rule):
            estimate = _asked(result, row, rule)
            doubt = "" if trust_base or rule.law == "real" else _base_doubt(result)
            lines.append(_judged(row.name, rule, estimate, doubt))
    return lines


def _judged_rows(result: Result, rule: GateRule) -> Sequence[CompressorRow | OutageRow]:
    """All compressors; of a network the losses that have the quantity."""
    if result.network is None:
        return result.compressors
    known = {row.name: gate_quantities(result, row) for row in result.outages}
    found = [row for row in result.outages if rule.quantity in known[row.name]]
    if not found:
        held = sorted({key for keys in known.values() for key in keys})
        more = " Another threshold needs another run: --tau LEVEL, or --tau_db LEVEL."
        raise CsiAuditError(
            f"the result has no {rule.quantity}.{did_you_mean(rule.quantity, held)} It has: "
            f"{', '.join(held)}.{more if rule.quantity.startswith('p_fail') else ''}"
        )
    return found


def _asked(result: Result, row: CompressorRow | OutageRow, rule: GateRule) -> Estimate:
    known = gate_quantities(result, row)
    if rule.quantity not in known:
        more = ""
        if rule.quantity.startswith("p_fail"):
            more = " Another threshold needs another run: csi-audit run ... --tau_db LEVEL."
        raise CsiAuditError(
            f"the result has no {rule.quantity} for {row.name}."
            f"{did_you_mean(rule.quantity, known)} It has: {', '.join(sorted(known))}.{more}"
        )
    laws = known[rule.quantity]
    if rule.law not in laws:
        raise CsiAuditError(
            f"the result has {rule.quantity} for {row.name} under the law {joined(list(laws))} "
            f"alone; got @{rule.law}. Write {rule.quantity}@{next(iter(laws))}."
        )
    return laws[rule.law]


def _base_doubt(result: Result) -> str:
    verdict = result.base.verdict
    if verdict == "credible":
        return ""
    words = {
        "misses": "the base law misses the real channels",
        "not checked": "the base law was not checked against real channels",
        "cannot tell": "nobody can tell whether the base law is close to the real channels",
    }
    return words[verdict]


def _judged(name: str, rule: GateRule, estimate: Estimate, doubt: str) -> GateLine:
    """Pass where even the worse end keeps the limit, fail where even the better end breaks it."""
    doubt = doubt or usable_status(estimate)
    shown = shown_estimate(estimate)
    if doubt or estimate.interval is None:
        reason = doubt or "there is no interval"
        return GateLine(
            verdict="cannot tell", compressor=name, rule=rule.words(), words=f"{shown}; {reason}"
        )
    lo, hi = estimate.interval
    better, worse = (lo, hi) if rule.side == "max" else (-hi, -lo)
    limit = rule.limit if rule.side == "max" else -rule.limit
    if worse <= limit:
        verdict: GateVerdict = "pass"
    else:
        verdict = "fail" if better > limit else "cannot tell"
    words = shown if verdict != "cannot tell" else f"{shown} holds the limit inside"
    return GateLine(verdict=verdict, compressor=name, rule=rule.words(), words=words)


def usable_status(estimate: Estimate) -> str:
    """Why an estimate cannot be judged; "" where it can. Bounds from zero failures can."""
    bounds = ("ok", "none seen", "all: lower bound")
    return "" if estimate.status.startswith(bounds) else estimate.status


def shown_estimate(estimate: Estimate) -> str:
    """`0.0080 [0.0050, 0.0099]`."""
    if estimate.interval is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} [{estimate.interval[0]:.4g}, {estimate.interval[1]:.4g}]"


# --- Against an older result ----------------------------------------------------------------------

Paired = Mapping[str, tuple[Array, Array]]
"""Linear NMSE of the same real channels by compressor: now, and in the older result."""


def judged_changes(new: Result, old: Result, *, paired: Paired | None = None) -> list[GateLine]:
    """What changed in each compressor or loss that both results hold: worse, same, better, cannot
    tell.

    Means count as the same within 0.1 dB, probabilities within a factor of 2, as far as the
    intervals can tell; equal estimates are the same whatever their intervals. Each line is judged
    at 95 % for itself: among many, one may be called worse by chance. Figures under base laws that
    differ are not compared.

    Args:
        new: The result under judgement.
        old: The one before.
        paired: Where both measured the same real channels, which tells smaller changes.
    Raises:
        CsiAuditError: no compressor is in both.
    """
    before = {row.name: row for row in judged_of(old)}
    both = [row for row in judged_of(new) if row.name in before]
    if not both:
        names = joined([row.name for row in judged_of(new)])
        raise CsiAuditError(
            f"against: the older result holds {joined(list(before))}, this one {names}: there is "
            "nothing to compare."
        )
    lines = [
        GateLine(verdict="cannot tell", compressor=name, rule="is gone", words="not in this result")
        for name in before
        if name not in {row.name for row in both}
    ]
    laws: tuple[Law, ...] = ("base", "real") if same_base_law(new, old) else ("real",)
    for row in both:
        now, then = gate_quantities(new, row), gate_quantities(old, before[row.name])
        lines += _changes_of(row, now, then, (paired or {}).get(row.name), laws)
    return lines


def same_base_law(new: Result, old: Result) -> bool:
    """Whether figures under the base law of both results are of one law."""
    return (new.base.sha256, new.audited_law) == (old.base.sha256, old.audited_law)


def judged_of(result: Result) -> Sequence[CompressorRow | OutageRow]:
    """What a result audited: compressors, or losses of a network."""
    return result.compressors or result.outages


def _changes_of(
    new: CompressorRow | OutageRow,
    now: Mapping[str, Mapping[Law, Estimate]],
    then: Mapping[str, Mapping[Law, Estimate]],
    paired: tuple[Array, Array] | None,
    laws: Sequence[Law],
) -> list[GateLine]:
    lines = []
    for key in now.keys() & then.keys() - {"e_p(own_mse)"}:
        common = _is_common(key, new)
        for law in now[key].keys() & then[key].keys() & set(laws) if common else ():
            a, b = now[key][law], then[key][law]
            verdict, words = _change(key, a, b, paired if law == "real" else None, new.losses)
            rule = f"{key}@{law} since the older result"
            lines.append(GateLine(verdict=verdict, compressor=new.name, rule=rule, words=words))
    return sorted(lines, key=lambda line: line.rule)


def _is_common(key: str, row: CompressorRow | OutageRow) -> bool:
    """Whether a quantity means the same in every result.

    A threshold of each run's own does not, and a mean in dB has no factor.
    """
    if isinstance(row, OutageRow):
        fixed = re.fullmatch(r"p_fail\([a-z_]+>[-+0-9.e]+\)", key) is not None
        return fixed or (key == f"e_p({row.name})" and row.unit == "1")
    return key.startswith("p_fail(nmse_db>") or key in ("e_p(nmse)", "e_p(sgcs)")


def _change(
    key: str,
    now: Estimate,
    then: Estimate,
    paired: tuple[Array, Array] | None,
    losses: Mapping[str, LossSummary],
) -> tuple[GateVerdict, str]:
    words = f"{shown_estimate(then)} then, {shown_estimate(now)} now"
    if (now.value, now.interval, now.n) == (then.value, then.interval, then.n):
        return "same", words
    if paired is not None and key != "e_p(sgcs)":
        return _paired_change(key, *paired, words)
    doubt = usable_status(now) or usable_status(then)
    if doubt:
        return "cannot tell", f"{words}; {doubt}"
    factor = SAME_FACTOR if key.startswith("p_fail") else 10 ** (SAME_DB / 10)
    told = agree(now, then, factor=factor)
    if told != "differ":
        return ("same" if told == "agree" else "cannot tell"), words
    high_is_bad = not (key == "e_p(sgcs)" and losses["sgcs"].worse == "low")
    return ("worse" if (now.value > then.value) == high_is_bad else "better"), words


def _paired_change(key: str, now: Array, then: Array, words: str) -> tuple[GateVerdict, str]:
    """By the interval of the paired difference, on the same channels."""
    words = f"{words}; paired"
    if key.startswith("p_fail"):
        level = 10 ** (float(key.partition(">")[2].removesuffix(")")) / 10)
        change = probability_difference(now > level, then > level)
        share = float((then > level).mean())
        low, high = -share * (1 - 1 / SAME_FACTOR), share * (SAME_FACTOR - 1)
        if np.array_equal(now > level, then > level):
            return "same", words
    elif np.array_equal(now, then):
        return "same", words
    else:
        change = paired_mean_db(now, then)
        low, high = -SAME_DB, SAME_DB
        words = f"{words}: {shown_estimate(change)} dB"
    if change.interval is None:
        return "cannot tell", words
    lo, hi = change.interval
    if low <= lo and hi <= high:
        return "same", words
    if lo <= 0 <= hi:
        return "cannot tell", words
    return ("worse" if lo > 0 else "better"), words
