"""Plain English from figures: the answer on the first screen, sentences, numbers for display.

Everything is built from a `Result`; nothing is computed here beyond choosing what to say. Text is
plain: escaping is the page's business.
"""

import math
from collections.abc import Mapping, Sequence

from reports.estimates import Estimate, agree, format_estimate
from reports.fidelity_items import TailRatio
from reports.level_words import UNKNOWN as UNKNOWN
from reports.level_words import decibel as decibel
from reports.level_words import joined as joined
from reports.level_words import level_text
from reports.level_words import lower_first as lower_first
from reports.level_words import number as number
from reports.level_words import share_text as share_text
from reports.mode_names import mode_verdict
from reports.nouns import CHANNELS, Nouns
from reports.schema import (
    CompressorRow,
    RealismItem,
    Result,
    Tail,
    Threshold,
    Verdict,
    WorstFeature,
)

_ALIKE = "The base law cannot be told from the"
_SPECIAL = 3.0  # standard errors from which a feature of the worst channels is worth a sentence


def answer(result: Result) -> tuple[str, str, str]:
    """Three sentences: who fails most often, whether to trust it, what the failing channels are."""
    special = mode_sentence(result) or worst_sentence(result)
    return failure_sentence(result), trust_sentence(result), special


def failure_sentence(result: Result) -> str:
    """Which compressor fails most often, on which threshold, with both probabilities."""
    threshold = main_threshold(result)
    if threshold is None:
        return "No compressor has a failure probability at any threshold: nothing was counted."
    ranked = ranked_tails(result, threshold)
    if not ranked:
        return f"Nothing was counted at the threshold {threshold.label}."
    (row, tail), (least, low) = ranked[0], ranked[-1]
    where = f"NMSE above {decibel(tail.tau_db)}"
    if threshold.nmse_db is None:
        return (
            f"Each compressor has its own threshold ({threshold.label}); for {row.name} "
            f"({where}) the channel fails on {both_sides(tail)}."
        )
    if len(ranked) == 1:
        return f"{row.name} fails ({where}) on {both_sides(tail)}."
    budgets = budget_sentence([pair[0] for pair in ranked])
    gap = agree(_lead(tail), _lead(low))
    if gap != "differ":
        return (
            f"No compressor clearly fails more often than another ({where}): {row.name} on "
            f"{both_sides(tail)}, and {least.name} on {_percent(_lead(low))}.{budgets}"
        )
    return (
        f"{row.name} fails most often ({where}): on {both_sides(tail)}; "
        f"{least.name} fails least, on {_percent(_lead(low))}.{budgets}"
    )


def budget(row: CompressorRow) -> str:
    """What a codeword feeds back: `256 bits`, on average where they vary, or `128 + 1 reals`."""
    if row.bits_mean is None:
        side = f" + {row.n_side}" if row.n_side else ""
        return f"{row.n_code:,}{side} reals"
    if row.bits_mean == row.bits_max:
        return f"{row.bits_mean:,.0f} bits"
    return f"{number(row.bits_mean, 1)} bits on average"


def scales(row: CompressorRow) -> str:
    """The side information of a user: `1 scale`."""
    return f"{row.n_side} scale{'' if row.n_side == 1 else 's'}"


def budget_sentence(rows: Sequence[CompressorRow]) -> str:
    """Says so, after a space, where compressors feed back different amounts; "" otherwise."""
    found: dict[str, list[str]] = {}
    for row in rows:
        side = f" + {scales(row)}" if row.n_side and row.bits_mean is not None else ""
        found.setdefault(f"{budget(row)}{side}", []).append(row.name)
    if len(found) < 2:
        return ""
    parts = [f"{amount} ({_some(names)})" for amount, names in found.items()]
    return f" They do not feed back the same amount: {joined(parts)}."


def _some(names: Sequence[str]) -> str:
    """Names in a sentence; of more than four their number."""
    return joined(names) if len(names) <= 4 else f"{len(names)} compressors"


def trust_sentence(result: Result) -> str:
    """Whether the base law can stand for the real channels, with the figures that say so."""
    verdict = result.base.verdict
    rows = [item for item in result.realism if item.kind == "distortion" and item.ks is not None]
    if not rows or verdict == "not checked":
        if not result.base.n_samples:
            return "There is no base law here: every figure is counted on the real channels."
        return (
            "The base law was not checked against real channels, so the figures below hold for "
            "the base law alone and may be far from the field."
        )
    words = _agreements(result)
    said = base_sentence(verdict, rows, result.tail_ratios, alike="differ" not in words)
    if verdict == "misses":
        return (
            f"{said} Trust the columns counted on real channels; figures on base samples, and "
            "E_q[L] with them, are indications only."
        )
    differs = verdict == "cannot tell" or not said.startswith(_ALIKE)
    advice = " Where the columns differ, trust the one counted on real channels."
    return f"{said} {tally(words)}{advice if differs else ''}"


def base_sentence(
    verdict: Verdict,
    items: Sequence[RealismItem],
    ratios: Sequence[TailRatio] = (),
    *,
    alike: bool = True,
    nouns: Nouns = CHANNELS,
    units: Mapping[str, str] | None = None,
) -> str:
    """The verdict of `realism.base_verdict` in words: its figures, their thresholds.

    Args:
        verdict: As `base_verdict` gave it.
        items: What was compared.
        ratios: Tail ratios that took part.
        alike: False where other figures tell the two apart, so that nothing more may be claimed.
        nouns: What the samples are called.
        units: Of losses other than the NMSE, by name.
    """
    checked = [item for item in items if item.kind == "distortion" and item.ks is not None]
    if verdict == "not checked" or not checked:
        return f"The base law was not checked against {nouns.real}."
    worst = max(checked, key=lambda item: item.ks or 0.0)
    numbers = (
        f"{nouns.measures} on its samples and on {nouns.real} differ by a KS distance of at most "
        f"{worst.ks:.3f} ({worst.label}), where a perfect model would show {worst.floor_mean:.3f}"
    )
    if verdict == "misses":
        far = sorted((r for r in ratios if r.verdict == "off"), key=_distance, reverse=True)
        rest = f"{len(far) - 1} further tail{'s are' if len(far) > 2 else ' is'} off"
        more = f", and {rest}" if len(far) > 1 else ""
        tails = f"; {ratio_words(far[0], nouns, units)}{more}" if far else ""
        return f"The base law misses the {nouns.real}: {numbers}{tails}. {base_rule(items, ratios)}"
    if verdict == "cannot tell":
        return (
            f"Whether the base law is close enough to the {nouns.real} cannot be told at these "
            f"sizes: {numbers}. {base_rule(items, ratios)}"
        )
    if alike and all(item.verdict == "within chance" for item in checked):
        return f"{_ALIKE} {nouns.real}: {numbers}."
    return f"The base law is close to the {nouns.real} but not equal to them: {numbers}."


def base_rule(items: Sequence[RealismItem], ratios: Sequence[TailRatio] = ()) -> str:
    """The thresholds of `realism.base_verdict` at the sizes at hand; "" where nothing was compared.

    Their numbers are those of the distortion with the widest ones.
    """
    found = [
        (item.limit, item.floor_95)
        for item in items
        if item.kind == "distortion" and item.limit is not None and item.floor_95 is not None
    ]
    if not found:
        return ""
    limit, floor = max(found, key=lambda pair: pair[0] + pair[1])
    rule = (
        f"Accepted is a KS distance of at most {max(limit, floor):.3f}, the larger of the limit "
        f"{limit:.2f} and what chance shows of a perfect model; beyond {limit + floor:.3f}, their "
        "sum, it is off"
    )
    if not ratios:
        return f"{rule}."
    common, rare = (
        {ratio.limits for ratio in ratios if (ratio.share >= 0.01) is often}
        for often in (True, False)
    )
    parts = [f"[{lo:g}, {hi:g}]" for lo, hi in sorted(common)]
    parts += [f"[{lo:g}, {hi:g}] below 1 %" for lo, hi in sorted(rare)]
    return f"{rule}, as is a tail ratio whose 95 % interval leaves out {joined(parts)}."


def _distance(ratio: TailRatio) -> float:
    """How far a tail ratio is from 1, on the log scale."""
    if ratio.ratio is None or ratio.ratio.value <= 0:
        return math.inf
    return abs(math.log(ratio.ratio.value))


def ratio_words(
    ratio: TailRatio, nouns: Nouns = CHANNELS, units: Mapping[str, str] | None = None
) -> str:
    """How often base samples reach the tail of the real channels, in a clause.

    Further arguments as of `base_sentence`.
    """
    where = f"the worst {share_text(ratio.share)} of {nouns.real} for {ratio.label}"
    if ratio.ratio is None or ratio.tau is None or ratio.ratio.interval is None:
        return f"{where} are none"
    lo, hi = ratio.ratio.interval
    return (
        f"base samples are {ratio.ratio.value:.2f} [{lo:.2f}, {hi:.2f}] times as often among "
        f"{where} (from {ratio_level(ratio, units)} on)"
    )


def ratio_level(ratio: TailRatio, units: Mapping[str, str] | None = None) -> str:
    """The threshold of a tail ratio: in dB of an NMSE, in the unit of another loss."""
    if ratio.tau is None:
        return UNKNOWN
    if units is not None and ratio.name in units:
        return level_text(ratio.tau, units[ratio.name])
    return decibel(10 * math.log10(ratio.tau)) if ratio.tau > 0 else number(ratio.tau)


def worst_sentence(result: Result) -> str:
    """What is special about the worst channels of the compressor that fails most."""
    row, features = leading_worst(result)
    if row is None or not features:
        return "What is special about the worst channels was not computed."
    first = features[0]
    whose = "real channels" if first.source == "real" else "base samples"
    group = f"the worst {share_text(first.share)} of {whose} for {row.name}"
    special = [item for item in features if abs(item.shift) >= _SPECIAL][:2]
    if not special:
        return f"No feature stands out in {group} ({first.n_worst} channels)."
    facts = " and ".join(feature_fact(item) for item in special)
    others = same_mode(result, row, first)
    also = f" The same feature leads for {joined(others)}." if others else ""
    return f"{group[0].upper()}{group[1:]} ({first.n_worst} channels) have {facts}.{also}"


def mode_sentence(result: Result) -> str:
    """The first failure mode of the compressor that fails most often; "" without any modes."""
    threshold = main_threshold(result)
    ranked = [row for row, _ in ranked_tails(result, threshold)] if threshold else []
    for row in ranked or result.compressors:
        if row.modes is not None and row.modes.modes:
            first = row.modes.modes[0]
            share = format_estimate(first.share, percent=True)
            return (
                f"{share} of the failures of {row.name} (NMSE above {decibel(row.modes.nmse_db)}) "
                f"are of one kind: {lower_first(first.name)}. {mode_verdict(first, row.modes)}"
            )
    return ""


def leading_worst(result: Result) -> tuple[CompressorRow | None, tuple[WorstFeature, ...]]:
    """The compressor that fails most often and its features, real channels unless base is asked."""
    threshold = main_threshold(result)
    ranked = ranked_tails(result, threshold) if threshold else []
    candidates = [row for row, _ in ranked] or list(result.compressors)
    source = "base" if result.base.verdict == "credible" else "real"
    for row in candidates:
        for choice in (source, "real", "base"):
            found = tuple(item for item in row.worst if item.source == choice)
            if found:
                return row, found
    return None, ()


def same_mode(result: Result, row: CompressorRow, first: WorstFeature) -> list[str]:
    """Other compressors whose worst channels are led by the same feature, in the same direction."""
    names = []
    for other in result.compressors:
        lead = next((item for item in other.worst if item.source == first.source), None)
        if other.name == row.name or lead is None or abs(lead.shift) < _SPECIAL:
            continue
        if lead.feature == first.feature and (lead.shift > 0) == (first.shift > 0):
            names.append(other.name)
    return names


def feature_fact(item: WorstFeature) -> str:
    """What sets worst channels apart: `larger delay spread (median 210 ns, over all 95 ns)`."""
    words = ("more", "fewer") if item.label.endswith("s") else ("larger", "smaller")
    more = words[0] if item.shift > 0 else words[1]
    unit = f" {item.unit}" if item.unit else ""
    medians = f"median {item.median_worst:.3g}{unit}, over all {item.median_all:.3g}{unit}"
    return f"{more} {lower_first(item.label)} ({medians})"


def klt_sentence(name: str, against_klt_db: float | None) -> str:
    """Whether a compressor beats the KLT of equal code length.

    Args:
        name: The compressor.
        against_klt_db: NMSE_KLT - NMSE [dB]; positive = better than the KLT.
    """
    if against_klt_db is None:
        return f"{name} was not compared with the KLT of equal code length."
    size = f"{abs(against_klt_db):.1f} dB"
    if abs(against_klt_db) < 0.05:
        return f"{name} is level with the KLT of equal code length."
    if against_klt_db > 0:
        return f"{name} beats the KLT of equal code length by {size}."
    return f"{name} does not beat the KLT of equal code length: it is {size} worse."


def main_threshold(result: Result) -> Threshold | None:
    """The threshold that ranks compressors: the first common one, else the first at all."""
    used = {tail.threshold for row in result.compressors for tail in row.estimates.tails}
    known = [threshold for threshold in result.tau if threshold.label in used]
    common = [threshold for threshold in known if threshold.nmse_db is not None]
    return next(iter(common + known), None)


def ranked_tails(result: Result, threshold: Threshold) -> list[tuple[CompressorRow, Tail]]:
    """Compressors with a probability at the threshold, most failures first."""
    pairs = [
        (row, tail)
        for row in result.compressors
        for tail in row.estimates.tails
        if tail.threshold == threshold.label and _lead(tail) is not None
    ]
    return sorted(pairs, key=lambda pair: -_value(_lead(pair[1])))


def realism_phrase(item: RealismItem) -> str:
    """One row of the realism table in words."""
    if item.ks is None or item.floor_mean is None or item.floor_95 is None:
        return "not checked"
    ratio = item.ks / item.floor_mean
    return f"{item.verdict} ({ratio:.1f} times a perfect model's mean)"


def _lead(tail: Tail) -> Estimate | None:
    """The figure that ranks: counted on real channels where there are any."""
    return tail.real if tail.real is not None else tail.base


def _value(estimate: Estimate | None) -> float:
    return estimate.value if estimate else 0.0


def _percent(estimate: Estimate | None) -> str:
    """A probability in a sentence: `2.1 % [1.5, 2.8]` or `none (below 0.61 %)`."""
    if estimate is not None and estimate.value == 0 and estimate.interval:
        return f"none (below {100 * estimate.interval[1]:.2g} %)"
    return format_estimate(estimate, percent=True)


def both_sides(tail: Tail, nouns: Nouns = CHANNELS) -> str:
    """`2.1 % [..] of 2,000 real channels and 1.9 % [..] of 800 base samples`."""
    parts = []
    for estimate, whose in ((tail.real, nouns.real), (tail.base, "base samples")):
        if estimate is not None:
            share = _percent(estimate)
            if estimate is tail.base and tail.counted is not None:  # found by another method
                parts.append(f"{share} of the base law")
            elif share.startswith("none "):
                parts.append(f"none of {estimate.n:,} {whose} {share[5:]}")
            else:
                parts.append(f"{share} of {estimate.n:,} {whose}")
    return joined(parts)


def _agreements(result: Result) -> list[str]:
    """Agreement words of all failure probabilities known on both sides."""
    return [
        tail.agreement
        for row in result.compressors
        for tail in row.estimates.tails
        if tail.base is not None and tail.real is not None
    ]


def tally(words: Sequence[str]) -> str:
    """How many failure probabilities agree between base samples and real channels."""
    if not words:
        return "No failure probability is known on both sides."
    verbs = {
        "agree": ("agrees", "agree"),
        "differ": ("differs", "differ"),
        "cannot tell": ("rests on too few failures to tell", "rest on too few failures to tell"),
    }
    counts = {word: words.count(word) for word in verbs if word in words}
    parts = [f"{count} {verbs[word][count > 1]}" for word, count in counts.items()]
    return f"Of {len(words)} failure probabilities known on both sides, {joined(parts)}."
