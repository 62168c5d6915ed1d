"""The report of a cell network's audit as a page: `report.html` and its figures.

The counterpart of report.py for networks: the same look, pieces and promises. Words come from
network_words.py, the table from network_tables.py, pictures from placement_gallery.py.
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from channels.placement_domain import EDGE_DB
from reports.check_tables import ratio_cells
from reports.gallery import Picture
from reports.level_words import UNKNOWN, share_text
from reports.mode_words import mode_section
from reports.network_schema import OutageRow
from reports.network_tables import outage_cells, tail_note
from reports.network_words import (
    loss_units,
    mode_failure,
    network_answer,
    network_limits,
    network_nouns,
    outage_remarks,
)
from reports.nouns import Nouns
from reports.placement_arrays import PlacementArrays
from reports.placement_gallery import draw_placement_gallery
from reports.report import (
    embedded_pictures,
    heading_groups,
    own_pictures,
    page_template,
    write_page,
)
from reports.schema import Result
from reports.tables import mark_notes, plain_title
from reports.tail_words import decisions_of, tail_section
from reports.words import realism_phrase

_WHERE = (
    "Where failures are too rare to be counted, modes are found on those of subset simulation. "
    "A rule speaks of where users stand, not of whether they are served; shares of the users "
    "without service say where these stand among the mode's failures."
)


def write_network_report(
    result: Result, arrays: PlacementArrays | None, folder: str | Path
) -> Path:
    """Write `report.html` and `figures/*.png` of a network's audit into `folder`.

    Args:
        result: The audit, with its `network` and `outages`.
        arrays: What figures are drawn from; None gives a page of words and tables.
        folder: Run directory; made if missing.
    Returns:
        Path of `report.html`.
    Raises:
        CsiAuditError: the folder or a file cannot be written.
    """
    pictures = draw_placement_gallery(result, arrays)
    return write_page(Path(folder), network_html(result, pictures), pictures)


def network_html(result: Result, pictures: Iterable[Picture] = ()) -> str:
    """The HTML text of the report, with as many pictures embedded as fit a page."""
    shown = embedded_pictures(list(pictures))
    columns, rows = outage_cells(result)
    groups = heading_groups([column.group for column in columns])
    nouns, units = network_nouns(result), loss_units(result)
    return page_template("network.html.j2").render(
        result=result,
        network=result.network,
        nouns=nouns,
        modes_where=_WHERE,
        edge_db=EDGE_DB,
        data_name=Path(result.data.path).name,
        answer=network_answer(result),
        groups=groups,
        edges=list(accumulate(span for _, span in groups))[:-1],
        columns=columns,
        titles=[plain_title(column) for column in columns],
        rows=rows,
        footnotes=[*_footnotes(result, nouns), *mark_notes(rows)],
        thresholds=[
            tail_note(row, tail, result) for row in result.outages for tail in row.estimates.tails
        ],
        overview=own_pictures(shown, "overview", ""),
        sections=[_section(row, nouns, shown) for row in result.outages],
        realism=[(item, realism_phrase(item)) for item in result.realism],
        ratios=[ratio_cells(ratio, units) for ratio in result.tail_ratios],
        realism_pictures=own_pictures(shown, "realism", ""),
        decisions=[
            cells for row in result.outages for cells in decisions_of(row.label, row.estimates)
        ],
        limits=network_limits(result),
        unknown=UNKNOWN,
    )


def _section(row: OutageRow, nouns: Nouns, pictures: list[dict[str, str]]) -> dict[str, Any]:
    """What the template needs for one loss; it is shown by its label."""
    unit = "" if row.unit == "1" else f" [{row.unit}]"
    shown = replace(row, name=row.label[:1].upper() + row.label[1:])
    return {
        "row": shown,
        "loss": f"{row.label}{unit}",
        "definition": row.definition,
        "weight": row.estimates.weight,
        "pictures": own_pictures(pictures, "compressor", row.name),
        "modes": mode_section(row, nouns, mode_failure(row)),
        "mode_pictures": own_pictures(pictures, "modes", row.name),
        "worst": [(item, share_text(item.share)) for item in row.worst],
        "remarks": outage_remarks(row),
        "tail": tail_section(shown, loss="L", weight="l"),
    }


def _footnotes(result: Result, nouns: Nouns) -> list[str]:
    notes = [
        "Small print: 95 % intervals (counts: Clopper-Pearson; means: Student t).",
        "“agree”: the interval of the difference holds 0 and the ratio is known within a factor "
        "of 2; “differ”: it leaves out 0; “cannot tell”: too few failures to say.",
    ]
    weights = [f"{row.label}: l = {row.estimates.weight}" for row in result.outages]
    if weights:
        notes.append(f"q weights the base law p with l. {'; '.join(weights)}.")
    if result.base.verdict == "misses":
        notes.append(f"Amber: figures on base samples, which miss the {nouns.real} (Realism).")
    return notes
