"""A comparison as a page: `comparison.html` and its figures, written whole or not at all.

Words and tables come from comparison_words.py, pictures from comparison_figures.py. Strings are
escaped by the template engine, pictures are embedded, nothing is fetched from a network.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import numpy.typing as npt

from channels.support import CsiAuditError, write_text_atomic
from reports.comparison_schema import ComparedSet, ComparisonResult
from reports.comparison_words import (
    answer_sentences,
    comparison_tables,
    fed_back,
    short_names,
)
from reports.figure_data import ReportArrays
from reports.gallery import Picture, slug
from reports.report import embedded_pictures, replace_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

PAGE_NAME = "comparison.html"
_MANY = 5  # compressors from which figures are drawn coarser, to keep the page small


@dataclass(frozen=True, kw_only=True)
class ComparisonArrays:
    """What the figures are drawn from, by name of the set.

    Attributes:
        nmse: Linear NMSE of each compressor, [n].
        axes: Axes of the maps; no entry where none are known.
        power: Mean power of the channels, [n_tx, n_delay], FFT order.
        error: Mean power of each compressor's error, same scale.
        level_db: Common failure level to mark [dB]; None marks none.
    """

    nmse: Mapping[str, Mapping[str, Array]]
    axes: Mapping[str, ReportArrays] = field(default_factory=dict)
    power: Mapping[str, Array] = field(default_factory=dict)
    error: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    level_db: float | None = None


def write_comparison(
    result: ComparisonResult, arrays: ComparisonArrays | None, folder: str | Path
) -> Path:
    """Write `comparison.json`, `comparison.html` and `figures/*.png` into `folder`.

    Args:
        result: The comparison.
        arrays: What figures are drawn from; None gives a page of words and tables.
        folder: Made if missing.
    Returns:
        Path of `comparison.html`.
    Raises:
        CsiAuditError: the folder or a file cannot be written.
    """
    target = Path(folder)
    pictures = [] if arrays is None else list(comparison_pictures(result, arrays))
    page = render_comparison(result, pictures)
    try:
        target.mkdir(parents=True, exist_ok=True)
        replace_figures(target / "figures", pictures)
    except OSError as error:
        raise CsiAuditError(
            f"{target} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    result.save(target)
    write_text_atomic(target / PAGE_NAME, page)
    return target / PAGE_NAME


def render_comparison(result: ComparisonResult, pictures: list[Picture] | None = None) -> str:
    """The HTML text of the page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("comparison.html.j2").render(
        result=result,
        names=short_names([compressor.name for compressor in result.compressors]),
        answer=answer_sentences(result),
        tables=comparison_tables(result),
        fed_back=fed_back,
        pictures=embedded_pictures(pictures or []),
    )


def comparison_pictures(result: ComparisonResult, arrays: ComparisonArrays) -> Iterator[Picture]:
    """All figures that the comparison and its arrays allow, in reading order."""
    dpi = 160 if len(result.compressors) < _MANY else 110
    for i, compared in enumerate(result.sets):
        yield from _pictures_of(compared, arrays, slug(i, compared.name), dpi)


def _pictures_of(
    compared: ComparedSet, arrays: ComparisonArrays, tag: str, dpi: int
) -> Iterator[Picture]:
    from reports import comparison_figures as draw

    name, names = compared.name, [entry.name for entry in compared.rankings[0].entries]
    nmse = {n: np.asarray(arrays.nmse[name][n]) for n in names}
    few, clouds = _first(names, draw.MOST + 1), _first(names, draw.MOST_CLOUDS + 1)
    yield _picture(
        draw.beyond_figure(nmse, name), f"beyond-{tag}", dpi,
        f"Share of channels beyond each NMSE on {name}",
        f"{name}: the share of channels beyond each distortion, down to the last 10. Lines that "
        f"meet on the right fail alike on the worst channels, however their means differ.{few}",
    )  # fmt: skip
    if len(names) > 1:
        yield _picture(
            draw.difference_figure(compared), f"differences-{tag}", dpi,
            f"Paired differences of mean NMSE on {name}",
            f"{name}: how much worse each compressor is than the leading one on the same channels, "
            "with 95 % intervals. Grey: cannot be told.",
        )  # fmt: skip
        yield _picture(
            draw.cloud_figure(nmse, names, arrays.level_db), f"cloud-{tag}", dpi,
            f"NMSE of one compressor against another on {name}",
            f"{name}: a dot a channel. Right of the vertical dashed line the leading compressor "
            f"fails, above the horizontal one the other; top right both do.{clouds}",
        )  # fmt: skip
    error = arrays.error.get(name, {})
    if name in arrays.axes and len(error) > 0:
        yield _picture(
            draw.loss_figure(arrays.axes[name], arrays.power[name], {n: error[n] for n in names}),
            f"lost-{tag}", dpi, f"Where power is lost on {name}",
            f"{name}: where channels have power, what of it the leading compressor loses, and the "
            "others against it (red: they lose more there). Grey cells hold next to nothing."
            f"{few}",
        )  # fmt: skip


def _first(names: list[str], count: int) -> str:
    """What is left out, where there are too many to draw."""
    if len(names) <= count:
        return ""
    return f" By name are the first {count} of {len(names)} in the order of mean NMSE."


def _picture(figure: "Figure", name: str, dpi: int, alt: str, caption: str) -> Picture:
    from reports.figures import png_bytes

    png = png_bytes(figure, dpi)
    return Picture(name=name, section="overview", compressor="", caption=caption, alt=alt, png=png)
