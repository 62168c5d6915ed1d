"""What a preflight found: one verdict a check, and whether an audit would mean anything.

The checks themselves are in `compressors.preflight_checks`; a command prints what is here.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Outcome = Literal["pass", "warn", "fail", "not applicable"]


class Finding(NamedTuple):
    """What a check saw: a `Verdict` without the name of the check."""

    outcome: Outcome
    words: str
    measured: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        check: Its name.
        outcome: "fail" where every later figure would be meaningless, "warn" where it must be
            read with care, "not applicable" where nothing could be measured.
        words: What was found; of a failure the whole message, way out included.
        measured: The figure behind it; None if there is none.
        unit: Of `measured`.
    """

    check: str
    outcome: Outcome
    words: str
    measured: float | None = None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """All verdicts on one compressor, in the order they were reached.

    Attributes:
        name: Of the compressor.
        n: Channels it was tried on.
        verdicts: One a check.
    """

    name: str
    n: int
    verdicts: tuple[Verdict, ...]

    @property
    def meaningless(self) -> bool:
        """Whether an audit of this compressor would say nothing: some check fails."""
        return self.counts["fail"] > 0

    @property
    def counts(self) -> Counter[Outcome]:
        """Number of verdicts by outcome."""
        return Counter(verdict.outcome for verdict in self.verdicts)

    def verdict(self, check: str) -> Verdict:
        """The verdict of a check.

        Raises:
            KeyError: there is no such check.
        """
        for verdict in self.verdicts:
            if verdict.check == check:
                return verdict
        raise KeyError(f"check must be a known one; got {check!r}.")

    def sentence(self) -> str:
        """One line: what came of it."""
        counts = self.counts
        made = len(self.verdicts) - counts["not applicable"]
        start = f"{self.name}: {counts['pass']} of {made} checks pass on {self.n} channels"
        start += f", {counts['warn']} with a warning" if counts["warn"] else ""
        if not self.meaningless:
            return f"{start}: fit for an audit."
        failing = ", ".join(v.check for v in self.verdicts if v.outcome == "fail")
        return f"{start}; an audit would be meaningless ({failing})."

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "meaningless": self.meaningless}
