"""Names of failure modes in the field's words, and their rules in words.

A name says only what the mode's own failures show: a bound of its rule that lies beyond the
population's median, a feature of which nine failures in ten lie on one side of that median (and the
interval two in three), line of sight likewise, and where the power lies that the mode has above the
population's. Modes of one name get what sets them apart. Text is plain: escaping is the page's
business.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from reports.estimates import Estimate, format_estimate
from reports.mode_schema import FailureMode, FeatureRange, ModeReport
from reports.mode_space import STRETCH, Array, Axes, Condition, Rule, shortest_stretch
from reports.nouns import CHANNELS, Nouns
from reports.stratify import feature_display

MOST_PARTS = 4
_ONE_SIDED, _SURE = 0.9, 2 / 3  # share on one side of the median, and the least by its interval
_COMPACT = 8  # a stretch of 1/8 of the axis is one place

_WORDS = {  # feature: (large, small)
    "azimuth_spread_deg": ("wide angular spread", "narrow angular spread"),
    "delay_spread_s": ("long delay spread", "short delay spread"),
    "effective_paths": ("many paths", "few paths"),
    "k_factor_db": ("strong direct path", "weak direct path"),
    "peak_to_average_db": ("power in few coefficients", "power spread over many coefficients"),
}
_ALWAYS = ("azimuth_spread_deg", "delay_spread_s")  # named wherever they set the mode apart


@dataclass(frozen=True, kw_only=True)
class ModeFacts:
    """What a name is made from.

    Attributes:
        rule: Of the mode.
        usual: Median over all channels of what each of its conditions bounds.
        features: Ranges among its failures beside the population's.
        los: Share of its failures with line of sight, by the K-factor; None without one.
        los_population: The same share of all channels.
        excess_delay: Mean power of its failures less that of all, over rising delay, [n_delay].
        excess_beam: The same over rising angle, [n_columns].
        usual_delay: Mean power of all channels over rising delay, [n_delay].
        axes: Of these.
        delay_known: Whether delays are in seconds; taps otherwise.
    """

    rule: Rule
    usual: Sequence[float]
    features: Sequence[FeatureRange]
    los: Estimate | None
    los_population: float | None
    excess_delay: Array
    excess_beam: Array
    usual_delay: Array
    axes: Axes
    delay_known: bool


def mode_name(facts: ModeFacts) -> str:
    """`NLOS, wide angular spread, late cluster near 900 ns`; the rule where nothing is telling."""
    claims = {row.feature: _side(row) for row in facts.features}
    telling = [c for c, usual in zip(facts.rule, facts.usual, strict=True) if _beyond(c, usual)]
    claims |= {c.feature: c.side for c in telling if c.kind == "feature"}
    delays = [_delay_words(c, facts) for c in telling if c.kind == "delay"]
    beams = [_beam_words(c, facts) for c in telling if c.kind == "beam"]
    sight = [word for word in (_sight(facts),) if word]
    ruled = [c.feature for c in telling if c.kind == "feature"]
    besides = [name for name in _ALWAYS if name not in ruled and claims.get(name)]
    if delays:
        besides = [
            name for name in besides if name != "delay_spread_s"
        ]  # the window says it better
    room = MOST_PARTS - len([*sight, *ruled, *delays, *beams])
    named = [name for name in _WORDS if name in (*ruled, *besides[: max(room, 0)])]
    spread = [_word(name, claims[name]) for name in named]
    parts = dict.fromkeys([*sight, *spread, *delays, *beams])
    text = ", ".join(parts) or rule_words(facts.rule, facts.axes, facts.delay_known)
    return text[:1].upper() + text[1:]


def condition_words(facts: ModeFacts) -> list[str]:
    """Each condition of the rule in words, those that set the mode apart first."""
    pairs = sorted(zip(facts.rule, facts.usual, strict=True), key=lambda pair: not _beyond(*pair))
    return [_condition_words(c, facts.axes, facts.delay_known) for c, _ in pairs]


def told_apart(names: Sequence[str], conditions: Sequence[Sequence[str]]) -> list[str]:
    """Names of modes without a repetition; a name that is the only one of its kind stays.

    Of several modes of one name each bears its first condition that none of the others has:
    `Late cluster near 900 ns (K-factor at most −2 dB)`. One whose conditions an earlier one has
    besides more is `(the others)`; what is alike in all of them is numbered.

    Args:
        names: Of the modes.
        conditions: Of the rule of each, in words, the most telling first.
    """
    counts = Counter(names)
    taken = {name for name in names if counts[name] == 1}
    found = []
    for k, name in enumerate(names):
        if counts[name] > 1:
            name = next(form for form in _forms(k, names, conditions) if form not in taken)
            taken.add(name)
        found.append(name)
    return found


def rule_words(rule: Rule, axes: Axes, delay_known: bool) -> str:
    """The rule in full: `azimuth spread at least 31.2 deg and at least 22 % of the power at delays
    of 650 to 1,550 ns`."""
    return " and ".join(_condition_words(condition, axes, delay_known) for condition in rule)


def delay_text(low: float, high: float, delay_known: bool) -> str:
    """A stretch of delay: `650 to 1,550 ns`, or taps where the bandwidth is unknown."""
    scale, unit = (1e9, "ns") if delay_known else (1.0, "taps")
    return f"{_plain(scale * low)} to {_plain(scale * high)} {unit}"


def beam_text(low: float, high: float) -> str:
    """A stretch of angle: `sin(azimuth) 0.22 to 0.59`; through +-1 where the ends are reversed."""
    through = " through ±1" if low > high else ""
    return f"sin(azimuth) {_signed(low)} to {_signed(high)}{through}"


def mode_verdict(mode: FailureMode, report: ModeReport, nouns: Nouns = CHANNELS) -> str:
    """What the real channels say of a failure mode, in a sentence."""
    if mode.confirmation == "no real channels":
        return f"There are no {nouns.real} to confirm it."
    rate, usual = mode.rate_real, report.rate_real
    if rate is None or usual is None:
        return f"No {nouns.one_real} is of that kind, so nothing confirms it."
    share = format_estimate(rate, percent=True)
    found = f"{share} of the {rate.n:,} of that kind fail"
    if rate.value == 0 and rate.interval is not None:
        below = 100 * rate.interval[1]
        found = f"none of the {rate.n:,} of that kind fails (below {below:.2g} %)"
    figures = f"{found}, {100 * usual.value:.3g} % of all."
    return {
        "confirmed": f"{nouns.title} confirm it: {figures}",
        "not confirmed": f"{nouns.title} do not confirm it: {figures}",
    }.get(mode.confirmation, f"{nouns.title} cannot tell: {figures}")


def _forms(k: int, names: Sequence[str], conditions: Sequence[Sequence[str]]) -> Iterator[str]:
    """What mode k may be called beside its namesakes, the best first, without end."""
    name, mine = names[k], conditions[k]
    namesakes = [i for i, other in enumerate(names) if other == name and i != k]
    theirs = {words for i in namesakes for words in conditions[i]}
    yield from (f"{name} ({words})" for words in mine if words not in theirs)
    if any(i < k and set(mine) < set(conditions[i]) for i in namesakes):
        yield f"{name} (the others)"
    if k < min(namesakes):
        yield name
    yield from (f"{name} ({number})" for number in count(2))


def _condition_words(condition: Condition, axes: Axes, delay_known: bool) -> str:
    if condition.kind == "feature":
        label, unit, scale = feature_display(condition.feature)
        return f"{label} {condition.side} {_plain(scale * condition.limit)} {unit}".strip()
    start, stop = condition.bins[0], sum(condition.bins)
    share = f"{condition.side} {_plain(100 * condition.limit)} % of the power at"
    if condition.kind == "delay":
        edges = axes.delay_edges()
        return f"{share} delays of {delay_text(edges[start], edges[stop], delay_known)}"
    edges = axes.beam_edges()
    last = stop if stop < len(edges) else stop - len(edges) + 1
    return f"{share} {beam_text(float(edges[start]), float(edges[last]))}"


def _side(row: FeatureRange) -> str:
    """ "at least" or "at most" where the failures lie on one side of the median, else ""."""
    if row.above.interval is None:
        return ""
    low, high = row.above.interval
    if row.above.value >= _ONE_SIDED and low >= _SURE:
        return "at least"
    return "at most" if row.above.value <= 1 - _ONE_SIDED and high <= 1 - _SURE else ""


def _beyond(condition: Condition, usual: float) -> bool:
    """Whether a bound lies beyond the population's median, so that it sets the mode apart."""
    at_least = condition.side == "at least"
    return condition.limit >= usual if at_least else condition.limit <= usual


def _word(feature: str, side: str) -> str:
    large, small = _WORDS[feature]
    return {"at least": large, "at most": small}.get(side, "")


def _sight(facts: ModeFacts) -> str:
    """LOS or NLOS where nine failures in ten are, surely more than of all channels."""
    if facts.los is None or facts.los_population is None or facts.los.interval is None:
        return ""
    low, high = facts.los.interval
    if facts.los.value >= _ONE_SIDED and low > facts.los_population:
        return "LOS"
    return "NLOS" if facts.los.value <= 1 - _ONE_SIDED and high < facts.los_population else ""


def _delay_words(condition: Condition, facts: ModeFacts) -> str:
    """Where, within the window of a rule, the mode has more power than usual."""
    first, count = condition.bins
    edges, strongest = facts.axes.delay_edges(), int(facts.usual_delay.argmax())
    if first <= strongest < first + count:
        ends = delay_text(float(edges[first]), float(edges[first + count]), facts.delay_known)
        return f"power held within {ends}"
    when = "late" if first > strongest else "early"
    start, length = _stretch(facts.excess_delay[first : first + count])
    low, high = float(edges[first + start]), float(edges[first + start + length])
    if _COMPACT * length > len(facts.excess_delay):
        return f"{when} power at {delay_text(low, high, facts.delay_known)}"
    if not facts.delay_known:
        return f"{when} cluster near tap {_plain((low + high) / 2)}"
    return f"{when} cluster near {_plain(1e9 * (low + high) / 2)} ns"


def _beam_words(condition: Condition, facts: ModeFacts) -> str:
    """The same over angle."""
    first, count = condition.bins
    edges, n = facts.axes.beam_edges(), len(facts.excess_beam)
    start, length = _stretch(facts.excess_beam[np.arange(first, first + count) % n])
    low, high = ((first + start + end) % n for end in (0, length))
    if _COMPACT * length > n:
        return f"power at {beam_text(float(edges[low]), float(edges[high or n]))}"
    centre = float(edges[0]) + (first + start + length / 2) * float(edges[1] - edges[0])
    return f"beams near sin(azimuth) {_signed((centre + 1) % 2 - 1)}"


def _stretch(excess: Array) -> tuple[int, int]:
    """(first bin, bins) of what holds `STRETCH` of an excess; all of it where there is none."""
    found = shortest_stretch(np.maximum(excess, 0.0), STRETCH, circular=False)
    return (0, len(excess)) if found is None else found


def _plain(value: float) -> str:
    """Three significant digits, whole numbers from 100 on, a true minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.3g}"
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def _signed(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "0", "") else text.replace("-", "−")
