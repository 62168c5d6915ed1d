"""Plain English from the audit of a cell network: the answer on the first screen, and sentences.

Everything is built from a `Result`; nothing is computed here beyond choosing what to say. Text is
plain: escaping is the page's business.
"""

from collections.abc import Mapping

from reports.estimates import Estimate, format_estimate, proportion
from reports.level_words import decibel, joined, level_text, lower_first
from reports.loss_schema import Tail
from reports.mode_names import mode_verdict
from reports.mode_schema import FailureMode
from reports.network_schema import OutageRow
from reports.nouns import LAW_DRAWS, PLACEMENTS, Nouns
from reports.schema import Result
from reports.tail_words import one_in
from reports.words import base_sentence, both_sides, tally

_RARE = 1e-4  # probability below which it is said as one in so many too
_PLACES = 2  # where users without service stand, in a sentence


def network_answer(result: Result) -> tuple[str, str, str]:
    """Three sentences: what fails how often, where users sit then, whether the base is credible."""
    return outage_sentence(result), place_sentence(result), network_trust(result)


def network_nouns(result: Result) -> Nouns:
    """What the real side is called: placements of a file, or draws of the law."""
    return LAW_DRAWS if result.data.sha256 is None else PLACEMENTS


def failure_words(row: OutageRow, level: float | None) -> str:
    """When a loss fails: `shortfall of the 3rd worst user above 0 dB`."""
    side = "above" if row.worse == "high" else "below"
    return f"{row.label} {side} {level_text(level or 0.0, row.unit)}"


def mode_failure(row: OutageRow) -> str:
    """When it fails, at the threshold that its modes were looked for at."""
    return "" if row.modes is None else failure_words(row, row.modes.level)


def leading_tail(result: Result) -> tuple[OutageRow, Tail] | None:
    """The failure that the answer speaks of: at a fixed threshold, of a loss in dB if there is one.

    Such a loss is beyond its threshold or not, where an expected outage averages over users.
    """
    fixed = {threshold.label for threshold in result.tau if threshold.level is not None}
    pairs = [(row, tail) for row in result.outages for tail in row.estimates.tails]
    known = [pair for pair in pairs if pair[1].base is not None or pair[1].real is not None]
    ranked = sorted(known, key=lambda p: (p[1].threshold not in fixed, p[0].unit != "dB"))
    return ranked[0] if ranked else None


def outage_sentence(result: Result) -> str:
    """Which loss fails, how often on either side."""
    leading = leading_tail(result)
    if leading is None:
        return "No loss of this network has a failure probability: nothing was counted."
    row, tail = leading
    event = failure_words(row, tail.level)
    origin = next((t.origin for t in result.tau if t.label == tail.threshold), "")
    if row.unit == "dB" and origin and tail.threshold == decibel(tail.level):
        event = origin  # "3 or more of the 5 users have an SINR below 0 dB"
    return (
        f"{event[:1].upper()}{event[1:]} in {both_sides(tail, network_nouns(result))}"
        f"{_rare_words(tail.base)}."
    )


def place_sentence(result: Result) -> str:
    """Where users sit when it fails: the first modes of the loss that the answer speaks of."""
    leading = leading_tail(result)
    rows = [leading[0]] if leading else []
    rows += [row for row in result.outages if row not in rows]
    told = next((row for row in rows if row.modes is not None and row.modes.modes), None)
    if told is None or told.modes is None:
        notes = [row.modes.note for row in rows if row.modes is not None and row.modes.note]
        return f"Where users sit when it fails cannot be told. {' '.join(notes[:1])}".strip()
    report, first = told.modes, told.modes.modes[0]
    same = leading is not None and told is leading[0] and report.threshold == leading[1].threshold
    which = "these failures" if same else f"the failures ({failure_words(told, report.level)})"
    share = format_estimate(first.share, percent=True)
    count = len(report.modes)
    kinds = "of one kind" if count == 1 else f"of one of the {count} kinds found"
    return (
        f"{share} of {which} are {kinds}: {lower_first(first.name)}{_standing(first)}. "
        f"{mode_verdict(first, report, network_nouns(result))}"
    )


def network_trust(result: Result) -> str:
    """Whether the base law can stand for the real side, with the figures that say so."""
    nouns = network_nouns(result)
    items = [i for i in result.realism if i.kind == "distortion" and i.ks is not None]
    if not items or result.base.verdict == "not checked":
        return (
            f"The base law was not checked against {nouns.real}, so the figures below hold for the "
            "base law alone."
        )
    words = [
        tail.agreement
        for row in result.outages
        for tail in row.estimates.tails
        if tail.base is not None and tail.real is not None
    ]
    said = base_sentence(
        result.base.verdict, items, result.tail_ratios, alike="differ" not in words, nouns=nouns,
        units=loss_units(result),
    )  # fmt: skip
    advice = ""
    if result.base.verdict != "credible" or "differ" in words:
        advice = f" Where the columns differ, trust the one counted on {nouns.real}."
    return f"{said} {tally(words)}{advice}"


def loss_units(result: Result) -> Mapping[str, str]:
    """Unit of each loss by its name."""
    return {row.name: row.unit for row in result.outages}


def outage_remarks(row: OutageRow) -> list[str]:
    """Every status of this loss that is not ok, once each."""
    named = [("E_p[L]", row.estimates.e_p), ("E_q[l]", row.estimates.e_q)]
    for tail in row.estimates.tails:
        event = f"P({failure_words(row, tail.level)})"
        named += [(f"{event}, base", tail.base), (f"{event}, real side", tail.real)]
    found = {f"{name}: {e.status}.": None for name, e in named if e and e.status != "ok"}
    return list(found)


def network_limits(result: Result) -> list[str]:
    """What the figures cannot say, in words and with the numbers of this run."""
    nouns = network_nouns(result)
    lines = [
        "The network is a simulation: path loss, interference of the mean load and noise as stated "
        "above; every user is served by its nearest station, without scheduling or fading.",
        "Figures on base samples hold for the audited law named above, at its number of steps; "
        "they are no better than the realism check lets them be.",
    ]
    bound = proportion(0, result.data.n).interval if result.data.n > 0 else None
    if bound is not None:
        lines.append(
            f"{result.data.n:,} {nouns.real} cannot exclude failures rarer than "
            f"{100 * bound[1]:.2g} %."
        )
    if nouns is LAW_DRAWS:
        lines.append(
            "No real placements were given: what is confirmed here is confirmed of the law, not of "
            "where users of a real network stand."
        )
    return lines


def _standing(mode: FailureMode) -> str:
    """Where most users without service stand, as the end of a sentence."""
    places = [f"{p.name} ({100 * p.share:.0f} %)" for p in mode.places[:_PLACES]]
    return f"; users without service stand {joined(places)}" if places else ""


def _rare_words(estimate: Estimate | None) -> str:
    if estimate is None or not 0 < estimate.value < _RARE:
        return ""
    return f", {one_in(estimate.value)}"
