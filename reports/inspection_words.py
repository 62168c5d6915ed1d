"""What `inspect` says of channel files: facts, features and shifts as rows for terminal and page.

Numbers come from `channels.inspection`; here they get units and words. Text is plain: escaping is
the page's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from channels.inspection import Inspection, users_in_both
from reports.realism import realism_item
from reports.stratify import feature_display
from reports.tables import Tone
from reports.words import UNKNOWN, joined

Array = npt.NDArray[np.float32]
Verdict = Literal["alike", "small shift", "shift"]

GAIN = "power_db"
TONES: Mapping[Verdict, Tone] = {"alike": "good", "small shift": "unsure", "shift": "bad"}
_VERDICTS: Mapping[str, Verdict] = {"within chance": "alike", "off by little": "small shift"}
_LEAST_DB = 0.1  # standard deviation of gains that a file has not taken out


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """A quantity over the users of one file, in the unit shown."""

    name: str
    label: str
    unit: str
    low: float
    median: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far a quantity lies apart in two files.

    Attributes:
        label, unit: As shown.
        first, second: Medians, in that unit.
        ks: Kolmogorov-Smirnov distance [1].
        floor_mean, floor_95: What two draws of one law show at these sizes: mean, and 95 % of them.
        verdict: "alike" within floor_95, "small shift" up to `realism.KS_LIMIT`, else "shift".
    """

    label: str
    unit: str
    first: float
    second: float
    ks: float
    floor_mean: float
    floor_95: float
    verdict: Verdict


def file_names(inspections: Sequence[Inspection]) -> list[str]:
    """A short name for each file: without its folder, unless two would be alike."""
    paths = [inspection.source.path for inspection in inspections]
    names = [Path(path).name for path in paths]
    return [
        path if names.count(name) > 1 else name for path, name in zip(paths, names, strict=True)
    ]


def figure_text(value: float) -> str:
    """Three significant digits, whole numbers from 100 to a million.

    >>> figure_text(1234.5), figure_text(-0.01234), figure_text(0.0)
    ('1,234', '−0.0123', '0')
    """
    text = f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "−") if text != "-0" else "0"


def quantities(inspection: Inspection) -> dict[str, Array]:
    """Features of the users by name, and the gain where the file has not taken it out."""
    found = {name: value.numpy() for name, value in inspection.features.items()}
    gain = inspection.power_db.numpy()
    if len(gain) and gain.std(dtype=np.float64) >= _LEAST_DB:
        found[GAIN] = np.round(gain, 2)
    return found


def display(name: str) -> tuple[str, str, float]:
    """Label, unit and factor of a quantity."""
    return ("gain", "dB", 1.0) if name == GAIN else feature_display(name)


def feature_rows(inspection: Inspection) -> list[FeatureRow]:
    """1, 50 and 99 % of the users for each quantity."""
    rows = []
    for name, values in quantities(inspection).items():
        label, unit, scale = display(name)
        low, median, high = scale * np.quantile(values.astype(np.float64), [0.01, 0.5, 0.99])
        rows.append(
            FeatureRow(name=name, label=label, unit=unit, low=low, median=median, high=high)
        )
    return rows


def shifts(first: Inspection, other: Inspection) -> list[Shift]:
    """Every quantity that both files have, the largest KS first; [] where a file has no channel."""
    one, two = quantities(first), quantities(other)
    found = []
    for name in one:
        if name not in two:
            continue
        item = realism_item(name, one[name], two[name], kind="feature")
        assert item.ks is not None
        assert item.floor_mean is not None
        assert item.floor_95 is not None
        label, unit, scale = display(name)
        found.append(
            Shift(
                label=label,
                unit=unit,
                first=scale * float(np.median(one[name])),
                second=scale * float(np.median(two[name])),
                ks=item.ks,
                floor_mean=item.floor_mean,
                floor_95=item.floor_95,
                verdict=_VERDICTS.get(item.verdict, "shift"),
            )
        )
    return sorted(found, key=lambda shift: -shift.ks)


def shift_sentence(names: tuple[str, str], rows: Sequence[Shift]) -> str:
    """Whether the second file is another law than the first."""
    one, other = names
    if not rows:
        return f"{other} and {one} have no quantity in common."
    moved = [row for row in rows if row.verdict == "shift"]
    little = [row for row in rows if row.verdict == "small shift"]
    if not moved and not little:
        return f"{other} shows no shift against {one}: {_of(rows)}, all within chance."
    worst = rows[0]
    unit = f" {worst.unit}" if worst.unit else ""
    most = (
        f"{worst.label} (median {figure_text(worst.first)} and {figure_text(worst.second)}{unit}, "
        f"KS {worst.ks:.2f}, by chance up to {worst.floor_95:.2f})"
    )
    if not moved:
        return (
            f"{other} lies close to {one}: {len(little)} of {_of(rows)} a little beyond chance, "
            f"most of all {most}."
        )
    return f"{other} is shifted against {one} in {len(moved)} of {_of(rows)}, most of all {most}."


def _of(rows: Sequence[Shift]) -> str:
    return f"{len(rows)} {'quantity' if len(rows) == 1 else 'quantities'}"


def pair_warnings(names: tuple[str, str], first: Inspection, other: Inspection) -> list[str]:
    """What stands in the way of comparing two files."""
    found = []
    shared = users_in_both(first, other)
    if shared:
        found.append(
            f"At least {shared:,} of the {other.n_good:,} users of {names[1]} stand in {names[0]} "
            "too, up to scale and phase: one is no test of what was trained on the other."
        )
    differ = [
        f"{what} {figure_or_unknown(a)} and {figure_or_unknown(b)}"
        for what, a, b in (
            ("receive antennas", first.shape[1], other.shape[1]),
            ("transmit antennas", first.shape[2], other.shape[2]),
            ("subcarriers", first.shape[3], other.shape[3]),
            ("bandwidth [MHz]", _mega(first.grid.bandwidth_hz), _mega(other.grid.bandwidth_hz)),
        )
        if a != b
    ]
    if differ:
        found.append(
            f"The grids differ ({joined(differ)}): quantities that depend on the resolution of the "
            "array or of the delay axis shift for that alone."
        )
    return found


def figure_or_unknown(value: float | None) -> str:
    """`figure_text`, or "unknown"."""
    return UNKNOWN if value is None else figure_text(value)


def _mega(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def facts(inspection: Inspection) -> list[tuple[str, str]]:
    """(name, value) of everything the file is, in reading order."""
    grid, source = inspection.grid, inspection.source
    n, n_rx, n_tx, n_sub = inspection.shape
    stored = source.convention
    return [
        ("format", source.format),
        ("stored as", UNKNOWN if stored is None else stored.describe_stored()),
        ("scenario", source.scenario or UNKNOWN),
        ("users", f"{n:,}"),
        ("users that are no channels", _bad(inspection)),
        ("duplicated users", _duplicated(inspection)),
        ("drops", _count(inspection.n_drops)),
        ("line of sight", _percent(inspection.share_los)),
        ("receive x transmit antennas", f"{n_rx} x {n_tx}"),
        ("array", grid.array or UNKNOWN),
        ("panel", _panel(inspection)),
        ("subcarriers", f"{n_sub:,}"),
        ("carrier", _in(grid.carrier_hz, 1e9, "GHz")),
        ("bandwidth", _in(grid.bandwidth_hz, 1e6, "MHz")),
        ("subcarrier spacing", _in(grid.spacing_hz, 1e3, "kHz")),
        ("delay tap", _in(grid.tap_s, 1e-9, "ns")),
        ("delay window", _in(grid.tap_s and n_sub * grid.tap_s, 1e-6, "us")),
        ("gain per user", _gain(inspection)),
        *_crops(inspection),
        ("labels", ", ".join(sorted(inspection.labels)) or "none"),
        ("sha256", source.sha256 or UNKNOWN),
    ]


def _bad(inspection: Inspection) -> str:
    counts = ((inspection.non_finite, "NaN or Inf"), (inspection.zero, "all zero"))
    return joined([f"{int(bad.sum()):,} {what}" for bad, what in counts if bad.any()]) or "none"


def _duplicated(inspection: Inspection) -> str:
    if inspection.keys is None:
        return UNKNOWN
    return "none" if inspection.duplicates is None else f"{inspection.duplicates.count:,}"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{100 * share:.1f} %"


def _in(value: float | None, unit: float, name: str) -> str:
    return UNKNOWN if value is None else f"{value / unit:g} {name}"


def _panel(inspection: Inspection) -> str:
    panel = inspection.grid.panel
    if panel is None:
        return f"one row of {inspection.shape[2]}"
    return f"{' x '.join(map(str, panel))} (polarisations x rows x columns)"


def _gain(inspection: Inspection) -> str:
    gain = inspection.power_db.double()
    return f"{gain.min():.1f} ... {gain.max():.1f} dB".replace("-", "−") if len(gain) else UNKNOWN


def _crops(inspection: Inspection) -> list[tuple[str, str]]:
    """What keeping the first taps alone would cost."""
    return [
        (
            f"crop to {kept} of {inspection.shape[3]} taps",
            f"loses {100 * float(loss.double().mean()):.2g} % of the energy, "
            f"{100 * float(np.quantile(loss.numpy(), 0.99)):.2g} % in the worst 1 % of users",
        )
        for kept, loss in inspection.crop_loss.items()
    ]
