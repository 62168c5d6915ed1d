"""Which figures the report of a cell network shows, in which section, and their captions.

Plans are `reports.gallery`'s. matplotlib is imported on the first call, not with this module.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from channels.placement_domain import PLACEMENT_FEATURES
from reports.gallery import Picture, Plan, drawn, slug
from reports.level_words import decibel, level_text
from reports.mode_schema import FailureMode
from reports.network_schema import OutageRow
from reports.network_words import failure_words, loss_units, network_nouns
from reports.nouns import Nouns
from reports.placement_arrays import PlacementArrays
from reports.placement_modes import FailingPlacements, failing_placements
from reports.placement_space import StandingUsers
from reports.reweighting import normalised_weights
from reports.schema import RealismItem, Result
from reports.stratify import feature_display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXEMPLARS = 3
_MODES = 3  # of a loss that are drawn
_MANY = 5  # losses from which figures are drawn coarser, to keep the page small


def draw_placement_gallery(result: Result, arrays: PlacementArrays | None) -> list[Picture]:
    """All figures that the result and its arrays allow, in reading order."""
    dpi = 170 if len(result.outages) < _MANY else 110
    return drawn(_plans(result, arrays), dpi=dpi)


def named_placement_figures(
    result: Result, arrays: PlacementArrays | None
) -> "Iterator[tuple[str, Figure]]":
    """The same figures by file name without ending, to be written in another form."""
    return ((plan.name, plan.draw()) for plan in _plans(result, arrays))


def _plans(result: Result, arrays: PlacementArrays | None) -> Iterator[Plan]:
    from reports.placement_figures import sinr_figure
    from reports.placement_loss_figures import outage_overview_figure

    nouns = network_nouns(result)
    if arrays is not None:
        yield Plan(
            name="network", section="overview", compressor="",
            alt="SINR over the area with the cells of all stations",
            caption="SINR of a user at each place, and where cells meet (white). Inside the orange "
            f"line it is below {decibel(arrays.network.threshold_db)}: a user there is not served.",
            draw=partial(sinr_figure, arrays.network),
        )  # fmt: skip
    if any(row.estimates.tails for row in result.outages):
        yield Plan(
            name="overview", section="overview", compressor="",
            alt="Failure probability of each loss with intervals",
            caption="How often the network fails. Where dot and square lie apart, the base law and "
            f"the {nouns.real} disagree.",
            draw=partial(outage_overview_figure, result.outages, nouns),
        )  # fmt: skip
    if arrays is not None:
        yield from _density_plans(result, arrays)
    for i, row in enumerate(result.outages):
        yield from _mode_plans(row, arrays, nouns, slug(i, row.name))
    if arrays is None:
        return
    for i, row in enumerate(result.outages):
        if row.name in arrays.losses_base or row.name in arrays.losses_real:
            yield _loss_plan(row, arrays, nouns, slug(i, row.name))
    yield from _realism_plans(result, arrays, nouns)


def _density_plans(result: Result, arrays: PlacementArrays) -> Iterator[Plan]:
    """Where users stand under p and under the q of each loss."""
    from reports.placement_figures import density_figure, user_map

    users = StandingUsers(network=arrays.network, x=arrays.x_base)
    plain = user_map(users, normalised_weights(arrays.log_w))
    for i, row in enumerate(result.outages):
        log_l = arrays.log_l.get(row.name)
        if log_l is None:
            continue
        tilted = user_map(users, normalised_weights(arrays.log_w + log_l))
        yield Plan(
            name=f"users-{slug(i, row.name)}", section="overview", compressor="",
            alt=f"Density of users under the base law and under the law weighted by {row.label}",
            caption=f"Where users stand: under the base law p, and under q, which weights it by "
            f"{row.label}. Lines: where cells meet; triangles: stations with their numbers.",
            draw=partial(
                density_figure, {"base law p": plain, "failure-weighted law q": tilted},
                arrays.network,
            ),
        )  # fmt: skip


# --- Modes ----------------------------------------------------------------------------------------


def _mode_plans(
    row: OutageRow, arrays: PlacementArrays | None, nouns: Nouns, tag: str
) -> Iterator[Plan]:
    """Maps of the first modes, the strata, then failing placements of these modes."""
    from reports.mode_figures import strata_figure

    modes = () if row.modes is None else row.modes.modes[:_MODES]
    failures = None if arrays is None else failing_placements(row, arrays)
    if arrays is not None and failures is not None:
        yield from _map_plans(modes, failures, arrays, row.name, tag)
    if row.strata:
        yield Plan(
            name=f"strata-{tag}", section="modes", compressor=row.name,
            alt=f"Failure probability by features of a placement, {row.label}",
            caption="How often placements fail, by feature: about fifths of the "
            f"{nouns.real}, their ends on the axis. Bars are 95 % intervals.",
            draw=partial(strata_figure, row.strata, nouns),
        )  # fmt: skip
    if arrays is not None and failures is not None:
        real = failing_placements(row, arrays, real=True)
        yield from _exemplar_plans(modes, failures, real, row, nouns, tag)


def _map_plans(
    modes: Sequence[FailureMode],
    failures: FailingPlacements,
    arrays: PlacementArrays,
    name: str,
    tag: str,
) -> Iterator[Plan]:
    from reports.placement_figures import mode_places_figure

    for k, mode in enumerate(modes):
        mine = failures.taken(failures.labels == k)
        if mine.weight.sum() <= 0:
            continue
        title = f"Mode {k + 1}: {mode.name}"
        yield Plan(
            name=f"mode-{k + 1}-{tag}", section="modes", compressor=name,
            alt=f"Places of users and features of {title}",
            caption=f"{title}. Where users stand in its failures, all of them and those without "
            "service, and the 10 to 90 % range of its features within all base samples (grey: the "
            "middle 80 %).",
            draw=partial(
                mode_places_figure, mine.users, mine.weight / mine.weight.sum(), mode,
                arrays.features_base,
            ),
        )  # fmt: skip


def _exemplar_plans(
    modes: Sequence[FailureMode],
    failures: FailingPlacements,
    real: FailingPlacements | None,
    row: OutageRow,
    nouns: Nouns,
    tag: str,
) -> Iterator[Plan]:
    """Real placements where enough of them fail, else of the sample the modes were found on."""
    from reports.placement_figures import exemplar_placements_figure

    for k, mode in enumerate(modes):
        shown, whose = failures, "samples of the base law"
        if real is not None and int((real.labels == k).sum()) >= EXEMPLARS:
            shown, whose = real, nouns.real
        if not (shown.labels == k).any():
            continue
        shown = _quartiles(shown.taken(shown.labels == k))
        at = "" if shown.values is None else " at the quartiles of the loss"
        title = f"Mode {k + 1}: {mode.name}"
        yield Plan(
            name=f"mode-{k + 1}-exemplars-{tag}", section="modes", compressor=row.name,
            alt=f"Failing placements of {title}",
            caption=f"{title}. Failing {whose}{at}, a thin line from each user to its station.",
            draw=partial(exemplar_placements_figure, shown.users, _titles(shown, row)),
        )  # fmt: skip


def _quartiles(found: FailingPlacements) -> FailingPlacements:
    """Up to `EXEMPLARS` placements at equally spaced ranks of the loss, or of the rows."""
    n = len(found.labels)
    order = np.arange(n) if found.values is None else np.argsort(found.values, kind="stable")
    ranks = (np.arange(1, EXEMPLARS + 1) / (EXEMPLARS + 1) * n).astype(int)
    return found.taken(order[np.unique(np.minimum(ranks, n - 1))])


def _titles(found: FailingPlacements, row: OutageRow) -> list[str]:
    """Number and loss of each exemplar, or how many users it leaves without service."""
    if found.values is None:
        out = found.users.unserved.sum(1).tolist()
        return [f"number {i:,}\n{k} users out" for i, k in zip(found.index, out, strict=True)]
    return [
        f"number {i:,}\nloss {level_text(float(v), row.unit)}"
        for i, v in zip(found.index, found.values, strict=True)
    ]


# --- Losses and realism ---------------------------------------------------------------------------


def _loss_plan(row: OutageRow, arrays: PlacementArrays, nouns: Nouns, tag: str) -> Plan:
    from reports.placement_loss_figures import outage_loss_figure

    text = "Above, how the loss is distributed under the base law p and the failure-weighted law q"
    if row.name in arrays.losses_real:
        text += f", and on {nouns.real} (dashed; grey: 95 % band)"
    curve = "" if row.estimates.curve is None else (
        " Dots: what 1 in 10, 1 in 100, ... of the base law exceeds, with its interval."
    )  # fmt: skip
    levels = [failure_words(row, tail.level) for tail in row.estimates.tails]
    marked = f" Marked: {'; '.join(dict.fromkeys(levels))}." if levels else ""
    return Plan(
        name=f"loss-{tag}", section="compressor", compressor=row.name,
        alt=f"Distribution of {row.label}",
        caption=f"{text}. Below, the share beyond each level, down to the last 10 placements: "
        f"where the blue line leaves the band, tail probabilities of base samples are off.{curve}"
        f"{marked}",
        draw=partial(outage_loss_figure, row, arrays, nouns),
    )  # fmt: skip


def _realism_plans(result: Result, arrays: PlacementArrays, nouns: Nouns) -> Iterator[Plan]:
    from reports.figures import realism_figure

    kinds: tuple[Literal["distortion", "feature"], ...] = ("distortion", "feature")
    for kind in kinds:
        own = kind == "distortion"
        base = arrays.losses_base if own else arrays.features_base
        real = arrays.losses_real if own else arrays.features_real
        items = [i for i in result.realism if i.kind == kind and i.name in base and i.name in real]
        if not items:
            continue
        what = nouns.measures if own else "features of placements"
        worst = max(items, key=lambda item: item.ks or 0.0)
        yield Plan(
            name=f"realism-{kind}", section="realism", compressor="",
            alt=f"Distribution functions of the {what}, base samples and {nouns.real}",
            caption=f"The {what}: base samples (solid) against {nouns.real} (dashed). The KS "
            f"distance is the largest vertical gap; the widest is in {worst.label}.",
            draw=partial(
                realism_figure, base, real, items, nouns=nouns, scales=_scales(result, items)
            ),
        )  # fmt: skip


def _scales(result: Result, items: Sequence[RealismItem]) -> Mapping[str, tuple[float, str]]:
    """Factor and unit that each quantity is shown in."""
    units, found = loss_units(result), {}
    for item in items:
        _, unit, scale = feature_display(item.name, PLACEMENT_FEATURES)
        if item.kind == "distortion":
            unit, scale = units.get(item.name, "1"), 1.0
        found[item.name] = (scale, "" if unit == "1" else unit)
    return found
