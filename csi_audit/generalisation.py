"""Which generalisation case of 3GPP TR 38.843 an audit is: trained on A, audited on B.

Told from what a compressor's card knows of its training channels and what the audited file says of
itself; what neither says stays unknown unless the user declares it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from channels.channel_set import Grid, Source
from channels.support import CsiAuditError, did_you_mean
from reports.comparison_schema import OWN_FILE, Case

BUNDLED_TRAINING = {
    "3c24ef6f6b7c908a9e14781f3f999f7ca641eedf81be63a98da8506919eb2621": "3GPP_38.901_UMi",
}
"""Scenario of the file that the bundled compressors were trained on, by its hash: their cards are
older than the key `scenarios`."""


@dataclass(frozen=True, kw_only=True)
class TrainingChannels:
    """What is known of the channels a compressor was trained on.

    Attributes:
        name: File, or what made them; None if unknown.
        sha256: Of the file.
        scenarios: Several of a mixture; empty if unknown.
        grid: Carrier and bandwidth [Hz] by field name, as far as the card says.
        declared: Whether the user said so on the command line.
    """

    name: str | None = None
    sha256: str | None = None
    scenarios: tuple[str, ...] = ()
    grid: Mapping[str, float] | None = None
    declared: bool = False

    def words(self) -> str:
        """`trained on umi_train.h5, 3GPP_38.901_UMi`."""
        known = [self.name, " + ".join(self.scenarios)]
        parts = [part for part in known if part]
        if not parts:
            return "training channels unknown"
        return f"trained on {', '.join(parts)}" + (" (as declared)" if self.declared else "")


def training_of(card: Mapping[str, Any], declared: str | None = None) -> TrainingChannels:
    """Training channels of a compressor from its card, or as the user declares them.

    Args:
        card: `NamedCompressor.card`.
        declared: Scenario, or several joined by "+"; None takes the card's word.
    """
    data = card.get("data") if isinstance(card.get("data"), Mapping) else {}
    name, sha256 = (data or {}).get("name"), (data or {}).get("sha256")
    scenarios = tuple(card.get("scenarios") or ())
    if not scenarios and sha256 in BUNDLED_TRAINING:
        scenarios = (BUNDLED_TRAINING[sha256],)
    if declared is not None:
        scenarios = tuple(part.strip() for part in declared.split("+") if part.strip())
    stored = (card.get("read_as") or {}).get("grid") or {}
    grid = {k: stored[k] for k in ("carrier_hz", "bandwidth_hz") if stored.get(k)}
    return TrainingChannels(
        name=name, sha256=sha256, scenarios=scenarios, grid=grid, declared=declared is not None
    )


def generalisation_case(training: TrainingChannels, source: Source, grid: Grid) -> tuple[Case, str]:
    """The case, and how it was told.

    Case 1: trained on the one scenario and configuration that is audited. Case 2: on another
    scenario, or on the same in another configuration (carrier, bandwidth). Case 3: on a mixture of
    several, of which the audited one is one. The report has no case for a mixture that does not
    hold the audited scenario; it has not seen it, so we count it to case 2. Case 2A, fine-tuning on
    the audited scenario, is case 3 or 1 here, by what the card names as training channels.

    Scenarios are compared by name, users in and out of sight of one scenario being of one.

    Args:
        training: What the compressor was trained on.
        source, grid: Of the audited channels.
    Source: 3GPP TR 38.843 (Release 18), clause 6.2, evaluation of CSI feedback enhancement: model
        generalisation, cases 1, 2, 2A and 3.
    """
    several = len(training.scenarios) > 1
    if training.sha256 is not None and training.sha256 == source.sha256:
        return ("case 3" if several else "case 1"), OWN_FILE
    if not training.scenarios:
        return "unknown", "its card does not say which scenario it was trained on"
    if source.scenario is None:
        return "unknown", "the audited file does not say its scenario"
    mine = {_plain(name) for given in training.scenarios for name in given.split(",")}
    its = {_plain(name) for name in source.scenario.split(",")}
    trained = f"trained on {' + '.join(training.scenarios)}"
    if not its <= mine:
        return "case 2", f"{trained}, audited on {source.scenario}"
    for field, own in (training.grid or {}).items():
        audited = getattr(grid, field)
        if audited is not None and abs(audited / own - 1) > 1e-6:
            what = field.removesuffix("_hz")
            return "case 2", f"same scenario, other {what}: {own / 1e6:g} and {audited / 1e6:g} MHz"
    if len(mine) > 1:
        return "case 3", f"{trained}, which holds {source.scenario}"
    return "case 1", f"trained and audited on {source.scenario}"


def declared_trainings(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """`NAME=SCENARIO` flags by compressor.

    Raises:
        CsiAuditError: no "=", an unknown compressor, or one named twice.
    """
    found: dict[str, str] = {}
    for entry in given:
        name, equals, scenario = entry.partition("=")
        if not (equals and scenario.strip()):
            raise CsiAuditError(
                f"trained_on must be NAME=SCENARIO, or NAME=A+B for a mixture; got {entry!r}."
            )
        if name not in names:
            raise CsiAuditError(
                f"trained_on names {name!r}, which is not compared.{did_you_mean(name, names)}"
            )
        if name in found:
            raise CsiAuditError(f"trained_on names {name!r} twice. Join scenarios by '+'.")
        found[name] = scenario
    return found


def _plain(scenario: str) -> str:
    """A scenario's name for comparison: letters and digits alone, without the standard's number
    and without whether users are in sight."""
    letters = "".join(c for c in scenario.lower() if c.isalnum())
    bare = letters.removeprefix("3gpp").removeprefix("tr").removeprefix("38901")
    for sight in ("nlos", "los"):
        bare = bare.removesuffix(sight) or bare
    return bare.removesuffix("streetcanyon") or bare  # UMi in the words of TR 38.901
