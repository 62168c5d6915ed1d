"""Which contrast makes a trained base most like its validation users: a search along one number."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from csi_audit.diffusion import Contrast, PreconditionedDenoiser
from csi_audit.quick_fidelity import FidelityFigures, QuickFidelity

AMOUNTS = (0.0, 0.05, 0.1, 0.15, 0.2)
"""Amounts that are tried first, evenly apart; 0 is the denoiser as it was trained."""
STEPS = 30
"""Steps of the 2M ODE, as many as an audit takes: the law depends on them a little."""


@dataclass(frozen=True, kw_only=True)
class ContrastChoice:
    """The contrast that was chosen, and what each that was tried came to.

    Attributes:
        contrast: None where no contrast is best.
        tried: Amount and figures of each.
    """

    contrast: Contrast | None
    tried: tuple[tuple[float, FidelityFigures], ...]


def choose_contrast(
    denoiser: PreconditionedDenoiser,
    fidelity: QuickFidelity,
    *,
    amounts: Sequence[float] = AMOUNTS,
) -> ContrastChoice:
    """The amount with the least mean of the distortion's KS distance and the features' mean one.

    The best is then held against those half-way to its neighbours. All amounts see the same noise,
    so that what differs is the contrast.

    Args:
        denoiser: As it was trained.
        fidelity: Of the validation users, at the steps of an audit.
        amounts: To try, evenly apart.
    """
    tried = {amount: fidelity(with_contrast(denoiser, amount)) for amount in amounts}
    half = (amounts[1] - amounts[0]) / 2
    first = _best(tried)
    for amount in (round(first - half, 6), round(first + half, 6)):
        if amount > min(amounts):
            tried[amount] = fidelity(with_contrast(denoiser, amount))
    best = _best(tried)
    return ContrastChoice(
        contrast=Contrast(amount=best) if best else None,
        tried=tuple(sorted(tried.items())),
    )


def _best(tried: Mapping[float, FidelityFigures]) -> float:
    """The least contrast of the nearest laws."""
    return min(tried, key=lambda a: (tried[a].distortion + tried[a].features, a))


def with_contrast(denoiser: PreconditionedDenoiser, amount: float) -> PreconditionedDenoiser:
    """The same weights under another contrast; 0 is none."""
    other = copy(denoiser)
    other.contrast = Contrast(amount=amount) if amount else None
    return other
