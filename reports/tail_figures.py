"""The tail curve in a figure: levels that a channel exceeds with probability 0.1, 0.01, ...

matplotlib is imported here, so this module is loaded when figures are drawn.
"""

from matplotlib.axes import Axes

from reports.plotting import BASE
from reports.tail_schema import LossTail


def draw_tail(axis: Axes, curve: LossTail) -> tuple[float, float] | None:
    """Add a tail curve with its intervals to an axis of share against NMSE [dB].

    Returns:
        The highest level and the smallest probability drawn; None where nothing was.
    """
    known = [(p.probability, p.base) for p in curve.points if p.base is not None]
    if not known:
        return None
    shares, found = [p for p, _ in known], [estimate for _, estimate in known]
    levels = [e.value for e in found]
    ends = [e.interval or (e.value, e.value) for e in found]
    below = [e.value - low for e, (low, _) in zip(found, ends, strict=True)]
    above = [high - e.value for e, (_, high) in zip(found, ends, strict=True)]
    label = "base law, counted" if curve.runs is None else "base law, subset simulation"
    axis.errorbar(levels, shares, xerr=[below, above], color=BASE, fmt="o", markersize=3.5,
                  capsize=2.5, linewidth=1.0, zorder=3, label=label)  # fmt: skip
    return max(high for _, high in ends), min(shares)
