"""What a check of a base law says, in sentences: the verdict first, then each part of it."""

from collections.abc import Iterator, Sequence

from reports.check_schema import BaseCheck
from reports.estimates import format_estimate
from reports.fidelity_items import StepDoubling, TailRatio
from reports.words import base_rule, base_sentence, joined, lower_first, number, ratio_words

POWER_BAND = (0.9, 1.1)
"""Where the mean power of nearly all samples of a finished base lies before it is scaled to 1."""


def check_sentences(check: BaseCheck) -> tuple[str, ...]:
    """Every sentence of the check, in order of importance; what was not checked says so."""
    parts = (_verdict, _tails, _features, _classifier, _coverage, _memorisation, _train, _steps,
             _seeds, _power)  # fmt: skip
    return tuple(sentence for part in parts for sentence in part(check))


def _verdict(check: BaseCheck) -> Iterator[str]:
    if check.base.verdict == "not checked":
        yield (
            "No distortion was compared: no compressor was named, and none of the bundled ones is "
            "for such channels. Name yours with --compressor."
        )
        return
    said = base_sentence(check.base.verdict, check.realism, check.tail_ratios)
    rule = base_rule(check.realism, check.tail_ratios)
    yield said if rule in said else f"{said} {rule}"


def _tails(check: BaseCheck) -> Iterator[str]:
    counts = {word: [r for r in check.tail_ratios if r.verdict == word] for word in
              ("pass", "off", "cannot tell")}  # fmt: skip
    if check.tail_ratios:
        told = [f"{len(rows)} {_VERBS[word]}" for word, rows in counts.items() if rows]
        off = [ratio_words(ratio) for ratio in counts["off"]]
        more = f": {joined(off)}" if off else ""
        yield f"Of {len(check.tail_ratios)} tail ratios, {joined(told)}{more}."


_VERBS = {"pass": "pass", "off": "are off", "cannot tell": "rest on too few to tell"}


def _features(check: BaseCheck) -> Iterator[str]:
    rows = [item for item in check.realism if item.kind == "feature" and item.ks is not None]
    if not rows:
        return
    fine = [item for item in rows if item.verdict == "within chance"]
    worst = max(rows, key=lambda item: item.ks or 0.0)
    yield (
        f"Of {len(rows)} features, {len(fine)} lie within what chance shows; the farthest is "
        f"{lower_first(worst.label)} at a KS distance of {worst.ks:.3f}, a perfect model shows "
        f"{worst.floor_mean:.3f} and {worst.limit:.2f} is the limit. Features do not decide."
    )


def _classifier(check: BaseCheck) -> Iterator[str]:
    found = check.classifier
    if found is None:
        yield "The classifier was not trained: there are too few channels or samples."
        return
    yield (
        f"A classifier trained on {found.auc.n:,} of both tells base samples from real channels "
        f"with an AUC of {format_estimate(found.auc)}, where 0.5 is not at all, a perfect model "
        f"stays below {found.perfect_95:.3f} and {found.limit:.2f} is accepted: {found.verdict}."
    )


def _coverage(check: BaseCheck) -> Iterator[str]:
    found = check.neighbours
    if found is not None:
        yield (
            f"{format_estimate(found.coverage, percent=True)} of real channels have a base sample "
            f"nearer than their real neighbour number {found.k}, where a perfect model would show "
            f"{100 * found.perfect_coverage:.1f} %; base samples lie there {found.density:.2f} "
            "times as densely as they should."
        )


def _memorisation(check: BaseCheck) -> Iterator[str]:
    found = check.memorisation
    if found is None:
        yield "Whether the base gives its training channels back was not checked: name --train."
        return
    often = _times(found.closer)
    said = {
        "copies": "The base gives training channels back",
        "no sign": "There is no sign that the base gives training channels back",
        "cannot tell": "Whether the base gives training channels back cannot be told",
    }[found.verdict]
    yield (
        f"{said}: its samples lie {often} as often as near to one of {found.n_train:,} training "
        f"channels as the nearest 1 % of held-out users do (medians {found.median_base:.2f} and "
        f"{found.median_held_out:.2f} of the power); surely more than twice would be copies."
    )


def _times(ratio: TailRatio) -> str:
    """ "1.2 times [0.8, 1.7]", "at most 0.65 times"."""
    if ratio.ratio is None or ratio.ratio.interval is None:
        return "an unknown number of times"
    value, (lo, hi) = ratio.ratio.value, ratio.ratio.interval
    return f"at most {hi:.2g} times" if not value else f"{value:.2g} times [{lo:.2g}, {hi:.2g}]"


def _train(check: BaseCheck) -> Iterator[str]:
    takes = [row for row in check.train_distortion if row.verdict.endswith("training users")]
    if takes:
        names = joined([row.name for row in takes])
        yield (
            f"Base samples take after the training users rather than after held-out ones for "
            f"{names}: distortions on them are too low by what the compressor knows of its "
            "training users."
        )
    elif check.train_distortion:
        yield "For no compressor do base samples take after the training users alone."


def _steps(check: BaseCheck) -> Iterator[str]:
    if not check.doubling:
        yield "Whether figures move with the number of steps was not checked."
        return
    moved = [row for row in check.doubling if row.verdict == "moves"]
    worst: StepDoubling = max(check.doubling, key=lambda row: row.ks)
    limits = (
        f"the largest movement is a KS distance of {worst.ks:.3f} ({lower_first(worst.label)}, "
        f"{worst.limit:.3f} counts as none)"
    )
    if not moved:
        yield f"Twice the steps move nothing: {limits}, on {worst.n} samples."
    else:
        yield f"Twice the steps move {joined(_labels(moved))}: {limits}, on {worst.n} samples."


def _labels(rows: Sequence[StepDoubling]) -> list[str]:
    return [lower_first(row.label) for row in rows]


def _seeds(check: BaseCheck) -> Iterator[str]:
    if not check.seeds:
        return
    differ = [row.name for row in check.seeds if row.verdict != "within chance"]
    spread = max(check.seeds, key=lambda row: max(row.mean_db) - min(row.mean_db))
    width = (
        f"the mean NMSE spreads by at most {number(max(spread.mean_db) - min(spread.mean_db))} dB "
        f"({spread.name}) over {len(spread.mean_db)} seeds of {spread.n} samples"
    )
    yield (
        f"Seeds differ by more than chance for {joined(differ)}: {width}."
        if differ
        else f"Seeds differ by no more than chance: {width}."
    )


def _power(check: BaseCheck) -> Iterator[str]:
    low, mid, high = check.raw_power
    fine = POWER_BAND[0] <= low and high <= POWER_BAND[1]
    yield (
        f"Before it is scaled to 1, the mean power of 98 % of the samples lies in "
        f"[{low:.2f}, {high:.2f}] (median {mid:.2f}): "
        + ("as it should." if fine else "far from 1 is the mark of an unfinished base.")
    )
