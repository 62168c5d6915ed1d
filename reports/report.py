"""The report as a page: `report.html` and its figures, written whole or not at all.

Everything the page says comes from a `Result` (words.py, tables.py) and a `ReportArrays`
(gallery.py); this module only gathers it for the template. Strings are escaped by the template
engine, pictures are embedded, nothing is fetched from a network.
"""

import base64
import os
import shutil
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import jinja2

from channels.run_folder import leftovers
from channels.support import CsiAuditError, write_text_atomic
from reports.check_tables import ratio_cells
from reports.estimates import Estimate, format_estimate, proportion
from reports.figure_data import ReportArrays
from reports.gallery import Picture, draw_gallery
from reports.mode_words import mode_section
from reports.nouns import CHANNELS
from reports.schema import CompressorRow, IssgmEntry, Result, Threshold
from reports.tables import mark_notes, plain_title, result_table, threshold_title
from reports.tail_words import decision_lines, tail_section
from reports.words import (
    UNKNOWN,
    answer,
    decibel,
    joined,
    klt_sentence,
    number,
    realism_phrase,
    share_text,
)

EMBED_BYTES = 3_300_000
"""PNG bytes embedded at most, which keeps the page below 5 MB; later figures are linked."""


def write_report(result: Result, arrays: ReportArrays | None, folder: str | Path) -> Path:
    """Write `report.html` and `figures/*.png` into `folder`.

    Args:
        result: The audit.
        arrays: What figures are drawn from; None gives a page of words and tables.
        folder: Run directory; made if missing.
    Returns:
        Path of `report.html`.
    Raises:
        CsiAuditError: the folder or a file cannot be written.
    """
    pictures = draw_gallery(result, arrays)
    return write_page(Path(folder), render_page(result, pictures), pictures)


def write_page(target: Path, page: str, pictures: list[Picture]) -> Path:
    """Write the text of a report and its figures into a folder, which is made if missing.

    Raises:
        CsiAuditError: the folder or a file cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        replace_figures(target / "figures", pictures)
    except OSError as error:
        raise CsiAuditError(
            f"{target} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    write_text_atomic(target / "report.html", page)
    return target / "report.html"


def render_page(result: Result, pictures: Iterable[Picture] = ()) -> str:
    """The HTML text of the report, with as many pictures embedded as `EMBED_BYTES` allows."""
    shown = embedded_pictures(list(pictures))
    columns, rows = result_table(result)
    groups = heading_groups([column.group for column in columns])
    return page_template("report.html.j2").render(
        result=result,
        nouns=CHANNELS,
        modes_where="The error lies where 80 % of what is lost beyond the usual is found.",
        data_name=Path(result.data.path).name,
        answer=answer(result),
        groups=groups,
        edges=list(accumulate(span for _, span in groups))[:-1],
        columns=columns,
        titles=[plain_title(column) for column in columns],
        rows=rows,
        footnotes=[*_footnotes(result), *mark_notes(rows)],
        thresholds=[_threshold_note(tau) for tau in result.tau],
        overview=[p for p in shown if p["section"] == "overview"],
        sections=[_section(row, shown) for row in result.compressors],
        realism=[(item, realism_phrase(item)) for item in result.realism],
        ratios=[ratio_cells(ratio) for ratio in result.tail_ratios],
        realism_pictures=[p for p in shown if p["section"] == "realism"],
        decisions=decision_lines(result),
        limits=_limits(result),
        unknown=UNKNOWN,
    )


def page_template(name: str) -> jinja2.Template:
    """A template of the reports; whatever it is given comes out escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    return environment.get_template(name)


def _threshold_note(tau: Threshold) -> str:
    title = threshold_title(tau)
    return f"{title}: {tau.origin}" if tau.label in title else f"{title}: {tau.label}, {tau.origin}"


def _section(row: CompressorRow, pictures: list[dict[str, str]]) -> dict[str, Any]:
    """What the template needs for one compressor."""
    issgm = row.estimates.issgm
    return {
        "row": row,
        "loss": "NMSE [dB]",
        "klt": _klt_line(row),
        "pictures": own_pictures(pictures, "compressor", row.name),
        "modes": mode_section(row),
        "mode_pictures": own_pictures(pictures, "modes", row.name),
        "worst": [(item, share_text(item.share)) for item in row.worst],
        "issgm": [] if issgm is None else _issgm_lines(row.name, issgm, row.estimates.e_q),
        "remarks": _remarks(row),
        "tail": tail_section(row),
    }


def own_pictures(pictures: list[dict[str, str]], section: str, name: str) -> list[dict[str, str]]:
    """Those of one section and one compressor or loss."""
    return [p for p in pictures if p["section"] == section and p["compressor"] == name]


def _klt_line(row: CompressorRow) -> str:
    """The sentence about the KLT, with the compressor's name in it."""
    text = row.against_klt or klt_sentence(row.name, row.against_klt_db)
    return text if row.name in text else f"{row.name}: {text}"


def _issgm_lines(name: str, entry: IssgmEntry, reweighted: Estimate | None) -> list[str]:
    """The paper's sampler in sentences: this run, then the full benchmark or why it is missing."""
    lines = [
        f"{name}, {entry.label} ({entry.n:,} samples, {entry.steps:,} steps): "
        f"E_q[L] = {format_estimate(entry.e_q)}; reweighted base samples give "
        f"{format_estimate(reweighted)}. Chain of this run: {entry.e_q.method}."
    ]
    if entry.full is not None:
        lines.append(f"Full benchmark of the same base model: {_full_text(entry.full)}.")
    if entry.note:
        lines.append(entry.note)
    return lines


def _full_text(full: Any) -> str:
    """The benchmark's figures in a line; estimates among them are formatted."""
    parts = []
    for key, value in full.items():
        name = "E_q[L]" if key == "e_q" else str(key).replace("_", " ")
        if isinstance(value, dict) and {"value", "n", "method"} <= set(value):
            value = format_estimate(Estimate.from_dict(value))
        elif isinstance(value, float):
            value = f"{value:.4g}"
        parts.append(f"{name} = {value}")
    return joined(parts)


def _remarks(row: CompressorRow) -> list[str]:
    """Every status of this compressor that is not ok, once each."""
    found: dict[str, None] = {}
    named = [("E_p[L]", row.estimates.e_p), ("E_q[L]", row.estimates.e_q)]
    for tail in row.estimates.tails:
        named += [(f"P(NMSE > {decibel(tail.tau_db)}), base", tail.base)]
        named += [(f"P(NMSE > {decibel(tail.tau_db)}), real", tail.real)]
    if row.estimates.issgm is not None:
        named.append(("E_q[L], issgm", row.estimates.issgm.e_q))
    for name, estimate in named:
        if estimate is not None and estimate.status != "ok":
            found[f"{name}: {estimate.status}."] = None
    return list(found)


def _footnotes(result: Result) -> list[str]:
    notes = [
        "Small print: 95 % intervals (counts: Clopper-Pearson; means: Student t).",
        "“agree”: the interval of the difference holds 0 and the ratio is known within a factor "
        "of 2; “differ”: it leaves out 0; “cannot tell”: too few failures to say.",
    ]
    losses = sorted({row.estimates.loss for row in result.compressors})
    weights = sorted({row.estimates.weight for row in result.compressors})
    if losses:
        notes.append(f"L is {joined(losses)}; q weights the base law p with l = {joined(weights)}.")
    if result.base.verdict == "misses":
        notes.append("Amber: figures on base samples, which miss the real channels (Realism).")
    return notes


def _limits(result: Result) -> list[str]:
    """What the figures cannot say, in words and with the numbers of this run."""
    lines = [
        "Every channel is scaled to unit power, so path loss is gone: failures are failures of "
        "shape, not of level.",
        "Figures on base samples hold for the audited law named above, at its number of steps; "
        "they are no better than the realism check lets them be.",
        "Users are counted one by one. If users of one drop were alike, intervals would be wider.",
    ]
    if result.data.n > 0:
        bound = proportion(0, result.data.n).interval
        rare = 100 * (bound[1] if bound else 1.0)
        lines.append(
            f"{result.data.n:,} real channels cannot exclude failures rarer than {rare:.2g} %."
        )
    return lines


def heading_groups(names: list[str]) -> list[tuple[str, int]]:
    """Neighbouring columns of one group as (heading, span)."""
    spans: list[tuple[str, int]] = []
    for name in names:
        if spans and name and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1] + 1)
        else:
            spans.append((name, 1))
    return spans


def embedded_pictures(pictures: list[Picture]) -> list[dict[str, str]]:
    """Pictures for the template; `uri` is the image itself while the budget lasts, else a path."""
    used, shown = 0, []
    for picture in pictures:
        used += len(picture.png)
        file = f"figures/{picture.name}.png"
        data = base64.b64encode(picture.png).decode("ascii")
        shown.append(
            {
                "section": picture.section,
                "compressor": picture.compressor,
                "caption": picture.caption,
                "alt": picture.alt,
                "uri": f"data:image/png;base64,{data}" if used <= EMBED_BYTES else file,
            }
        )
    return shown


def replace_figures(folder: Path, pictures: list[Picture]) -> None:
    """Write all figures beside `folder`, then put them in its place.

    The old ones are set aside until the new ones stand, and come back if those cannot.
    """
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    aside = folder.with_name(f".{folder.name}.old.{os.getpid()}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        for picture in pictures:
            (fresh / f"{picture.name}.png").write_bytes(picture.png)
        if folder.exists():
            folder.rename(aside)
        fresh.rename(folder)
    finally:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(fresh, ignore_errors=True)
    for leftover in leftovers(folder.parent):
        if leftover.name.startswith(f".{folder.name}."):
            shutil.rmtree(leftover, ignore_errors=True)
