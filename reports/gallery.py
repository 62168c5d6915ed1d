"""Which figures a report shows, in which section, and the caption that says what to look for.

Figures are drawn one after the other and kept as PNG bytes. matplotlib is imported on the first
call, not with this module.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from reports.figure_data import Exemplar, ReportArrays
from reports.schema import CompressorRow, RealismItem, Result
from reports.words import share_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Section = Literal["overview", "modes", "compressor", "realism"]
_MODES = 3  # of a compressor that are drawn
_MANY = 5  # compressors from which figures are drawn coarser, to keep the page small


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure of the page: a file name without ending, a caption, the PNG."""

    name: str
    section: Section
    compressor: str
    caption: str
    alt: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A picture that is still to be drawn."""

    name: str
    section: Section
    compressor: str
    caption: str
    alt: str
    draw: Callable[[], "Figure"]


def draw_gallery(result: Result, arrays: ReportArrays | None) -> list[Picture]:
    """All figures that the result and its arrays allow, in reading order."""
    return drawn(_plans(result, arrays), dpi=170 if len(result.compressors) < _MANY else 110)


def drawn(plans: Iterable[Plan], *, dpi: int) -> list[Picture]:
    """The pictures of the plans, one after the other."""
    from reports.figures import png_bytes

    return [
        Picture(name=plan.name, section=plan.section, compressor=plan.compressor,
                caption=plan.caption, alt=plan.alt, png=png_bytes(plan.draw(), dpi))
        for plan in plans
    ]  # fmt: skip


def named_figures(result: Result, arrays: ReportArrays | None) -> "Iterator[tuple[str, Figure]]":
    """The same figures by file name without ending, to be written in another form."""
    return ((plan.name, plan.draw()) for plan in _plans(result, arrays))


def slug(index: int, name: str) -> str:
    """File-name form of a compressor: position and letters, unique and safe."""
    letters = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{index + 1}-{letters}" if letters else str(index + 1)


def _plans(result: Result, arrays: ReportArrays | None) -> Iterator[Plan]:
    from reports.figures import overview_figure

    if any(row.estimates.tails for row in result.compressors):
        yield Plan(
            name="overview", section="overview", compressor="",
            alt="Failure probability per compressor with intervals",
            caption="How often each compressor fails. Where dot and square lie apart, the base law "
            "and the real channels disagree.",
            draw=lambda: overview_figure(result),
        )  # fmt: skip
    for i, row in enumerate(result.compressors):
        yield from _mode_plans(row, arrays, slug(i, row.name))
    if arrays is None:
        return
    for i, row in enumerate(result.compressors):
        yield from _compressor_plans(row, arrays, slug(i, row.name))
    yield from _realism_plans(result, arrays)


def _mode_plans(row: CompressorRow, arrays: ReportArrays | None, tag: str) -> Iterator[Plan]:
    """Two figures for each of the first modes, one of the strata."""
    from reports import mode_figures

    found = () if row.modes is None else row.modes.modes
    maps = {m.mode: m for m in arrays.mode_maps if m.compressor == row.name} if arrays else {}
    for k, mode in enumerate(found[:_MODES]):
        if arrays is None or k not in maps:
            continue
        shown = [e for e in arrays.exemplars if e.compressor == row.name and e.mode == k]
        title = f"Mode {k + 1}: {mode.name}"
        yield Plan(
            name=f"mode-{k + 1}-{tag}", section="modes", compressor=row.name,
            alt=f"Power, error and features of {title} for {row.name}",
            caption=f"{title}. Where its failing base samples have power, how that differs from "
            "all of them (red: more), what of it the compressor loses, and the 10 to 90 % range "
            f"of their features within all base samples (grey: the middle 80 %).{_summed(arrays)}",
            draw=partial(mode_figures.mode_figure, arrays, mode, maps[k]),
        )  # fmt: skip
        if shown:
            yield Plan(
                name=f"mode-{k + 1}-exemplars-{tag}", section="modes", compressor=row.name,
                alt=f"Failing channels of {title} for {row.name}",
                caption=f"{title}. Failing {_whose(shown)} at the quartiles of their NMSE, above "
                "over antennas and subcarriers, below over angle and delay, each over what the "
                f"decoder rebuilds.{_summed(arrays)}",
                draw=partial(mode_figures.mode_exemplar_figure, arrays, shown),
            )  # fmt: skip
    if row.strata:
        yield Plan(
            name=f"strata-{tag}", section="modes", compressor=row.name,
            alt=f"Failure probability of {row.name} by physical features",
            caption="How often channels fail, by physical feature: fifths of the real channels, "
            "their ends on the axis. Bars are 95 % intervals.",
            draw=partial(mode_figures.strata_figure, row.strata),
        )  # fmt: skip


def _whose(exemplars: list[Exemplar]) -> str:
    real = any(e.source == "real" for e in exemplars)
    return "real channels" if real else "base samples (too few real ones fail)"


def _compressor_plans(row: CompressorRow, arrays: ReportArrays, tag: str) -> Iterator[Plan]:
    from reports import figures

    name = row.name
    if name in arrays.nmse_base or name in arrays.nmse_real:
        levels = {tail.threshold: tail.tau_db for tail in row.estimates.tails}
        yield Plan(
            name=f"distortion-{tag}", section="compressor", compressor=name,
            alt=f"Distribution of the distortion of {name}",
            caption=_distortion_caption(name in arrays.nmse_base, name in arrays.nmse_real)
            + _tail_caption(row),
            draw=lambda: figures.distortion_figure(arrays, name, levels, row.estimates.curve),
        )  # fmt: skip
    if name in arrays.worst_base or name in arrays.worst_real:
        share = share_text(arrays.worst_share)
        both = name in arrays.worst_base and name in arrays.worst_real
        yield Plan(
            name=f"worst-{tag}", section="compressor", compressor=name,
            alt=f"Mean angular-delay power of the worst channels of {name}",
            caption=f"Where the worst {share} put their power. Red marks angles and delays with "
            f"more power than usual, blue with less; grey cells hold next to none.{_summed(arrays)}"
            + (" Trust patterns that show in both lower panels." if both else ""),
            draw=lambda: figures.worst_figure(arrays, name),
        )  # fmt: skip
    sources: tuple[Literal["real", "base"], ...] = ("real", "base")
    for source in sources:
        pair = exemplar_pair(arrays, name, source)
        if pair is not None:
            yield _exemplar_plan(arrays, *pair, tag)


def _distortion_caption(base: bool, real: bool) -> str:
    if not base:
        return "Distortion on real channels: above its density, below the share beyond each level."
    text = "Distortion under the base law p and under the failure-weighted law q"
    if not real:
        return f"{text}: q leans towards the channels that compress badly."
    return (
        f"{text}, and on real channels (grey: 95 % band). Look below for the tails, drawn down to "
        "the last 10 samples: where the blue line leaves the band, tail probabilities of base "
        "samples are off."
    )


def _tail_caption(row: CompressorRow) -> str:
    if row.estimates.curve is None:
        return ""
    return " Dots: what 1 in 10, 1 in 100, ... of the base law exceeds, with its interval."


def _exemplar_plan(arrays: ReportArrays, low: Exemplar, high: Exemplar, tag: str) -> Plan:
    from reports.figures import exemplar_figure

    whose = "real channel" if low.source == "real" else "base sample"
    return Plan(
        name=f"exemplars-{low.source}-{tag}", section="compressor", compressor=low.compressor,
        alt=f"A {whose} of low and one of high distortion for {low.compressor}",
        caption=f"{whose.capitalize()}s number {low.index} (easy) and {high.index} (hard). "
        "Compare how many angle-delay cells carry power, and how much of the hard channel is left "
        f"in its error, on the same scale.{_summed(arrays)}",
        draw=lambda: exemplar_figure(arrays, low, high),
    )  # fmt: skip


def _summed(arrays: ReportArrays) -> str:
    """What maps of a panel do not show."""
    several = arrays.panel is not None and arrays.panel[:2] != (1, 1)
    return " Beams of a panel's rows and polarisations are summed." if several else ""


def exemplar_pair(
    arrays: ReportArrays, name: str, source: Literal["base", "real"]
) -> tuple[Exemplar, Exemplar] | None:
    """The first low- and the first high-distortion channel of one compressor and source."""
    mine = [e for e in arrays.exemplars
            if e.compressor == name and e.source == source and e.mode < 0]  # fmt: skip
    low = next((e for e in mine if e.side == "low"), None)
    high = next((e for e in mine if e.side == "high"), None)
    return None if low is None or high is None else (low, high)


def _realism_plans(result: Result, arrays: ReportArrays) -> Iterator[Plan]:
    from reports.figures import realism_figure

    kinds: tuple[Literal["distortion", "feature"], ...] = ("distortion", "feature")
    for kind in kinds:
        base = arrays.nmse_base if kind == "distortion" else arrays.features_base
        real = arrays.nmse_real if kind == "distortion" else arrays.features_real
        items = [i for i in result.realism if i.kind == kind and i.name in base and i.name in real]
        if items:
            yield _realism_plan(kind, items, partial(realism_figure, base, real, items))


def _realism_plan(kind: str, items: list[RealismItem], draw: Callable[[], "Figure"]) -> Plan:
    what = "distortion of each compressor" if kind == "distortion" else "physical features"
    worst = max(items, key=lambda item: item.ks or 0.0)
    return Plan(
        name=f"realism-{kind}", section="realism", compressor="",
        alt=f"Distribution functions of the {what}, base samples and real channels",
        caption=f"The {what}: base samples (solid) against real channels (dashed). The KS distance "
        f"is the largest vertical gap; the widest is in {worst.label}.",
        draw=draw,
    )  # fmt: skip
