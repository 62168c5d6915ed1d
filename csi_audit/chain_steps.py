"""How far a chain in noise space moves at once: where it starts from, and what corrects it."""

from scipy import special

ACCEPTANCE = 0.44
"""Share of accepted moves that the step aims at."""
ADAPTATION = 1.5
"""Change of the step's logarithm a unit of acceptance that was missed."""
PILOT_MOVES = 64
"""Moves that try the step of a level beforehand, at most; no particle keeps one."""
PILOT_RANGE = (0.25, 0.65)
"""Acceptance of a pilot within which the step stays."""
PILOT_TRIALS = 6
"""Steps a pilot tries at most, each half or twice the one before."""


def gaussian_step(p: float) -> float:
    """Step b of the move that is accepted about 44 % of the time beyond a plane of probability p.

        b = 1.7 / (0.9 + Phi^-1(1 - p)),   at most 1

    The exact solutions for p = 0.1 to 1e-10 are met within 4 % of acceptance.
    """
    return min(1.0, 1.7 / (0.9 + max(0.0, -float(special.ndtri(p)))))
