"""`csi-audit gate`: limits on a result for continuous integration; a line a rule, an exit code."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from channels.support import CsiAuditError, check_target, did_you_mean, write_text_atomic
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.printing import say
from csi_audit.run_state import read_arrays
from reports.figure_data import ReportArrays
from reports.gate import (
    GateLine,
    Paired,
    judged_changes,
    judged_of,
    judged_rules,
    parse_rule,
    same_base_law,
)
from reports.schema import Result, load_result

EXIT_FAILED = 1


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Settings of a gate.

    Attributes:
        result: A result.json, or its run directory.
        max: Largest value that passes, QUANTITY=LIMIT: 'p_fail(nmse_db>-3)=1e-2',
            'e_p(nmse_db)=-6', 'quantile(nmse_db,0.99)@base=-1', of a network
            'p_fail(shortfall_db>0)@base=1e-2'. Judged on the upper end of the interval. Give the
            flag once for each.
        min: Smallest value that passes: 'e_p(sgcs)=0.75'. Judged on the lower end.
        law: Law of rules that do not say @base or @real.
        compressor: Compressors, or losses of a network, that are judged; none named takes all.
        against: An older result, of which nothing may have become worse.
        lenient: Whether "cannot tell" passes.
        trust_base: Whether figures under the base law count though the result does not call it
            credible.
        json: File to write the lines to; None writes none.
    """

    result: str
    max: tuple[str, ...] = ()
    min: tuple[str, ...] = ()
    law: Literal["real", "base"] = "real"
    compressor: tuple[str, ...] = ()
    against: str | None = None
    lenient: bool = False
    trust_base: bool = False
    json: str | None = None

    def __post_init__(self) -> None:
        if not (self.max or self.min or self.against):
            raise CsiAuditError(
                "a gate needs a limit or an older result; got none. Example: --max "
                "'p_fail(nmse_db>-3)=1e-2', or --against old/result.json."
            )


def gate_result(settings: GateConfig) -> int:
    """Judge a result.

    Returns:
        0 where every line passes, 1 otherwise.
    """
    if settings.json is not None:
        check_target(Path(settings.json))
    rules = [parse_rule(text, side="max", law=settings.law) for text in settings.max]
    rules += [parse_rule(text, side="min", law=settings.law) for text in settings.min]
    result = _chosen(load_result(settings.result), settings.compressor)
    lines = judged_rules(result, rules, trust_base=settings.trust_base)
    console = Console()
    if settings.against is not None:
        old = load_result(settings.against)
        if settings.compressor:
            old = _kept(old, [row.name for row in judged_of(result)])
        if old.data.sha256 != result.data.sha256:
            say(console, "Note: the older result is of other channels; changes may be theirs.")
        if not same_base_law(result, old):
            say(console, "Note: the older result has another base law; real users alone are held "
                "against it.")  # fmt: skip
        paired = _paired(settings.result, settings.against, result, old)
        lines += judged_changes(result, old, paired=paired)
    for line in lines:
        say(console, line.text())
    if settings.json is not None:
        plain = [asdict(line) for line in lines]
        write_text_atomic(settings.json, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    return 0 if all_pass(lines, lenient=settings.lenient) else EXIT_FAILED


def all_pass(lines: Sequence[GateLine], *, lenient: bool = False) -> bool:
    """Whether no line fails; "cannot tell" fails too, unless lenient."""
    bad = {"fail", "worse"} if lenient else {"fail", "worse", "cannot tell"}
    return not any(line.verdict in bad for line in lines)


def _chosen(result: Result, names: Sequence[str]) -> Result:
    """The result with the compressors, or losses of a network, that are judged."""
    known = [row.name for row in judged_of(result)]
    if not known:
        raise CsiAuditError("the result holds no compressor: there is nothing to judge.")
    what = "compressor" if result.network is None else "loss"
    for name in names:
        if name not in known:
            raise CsiAuditError(f"the result has no {what} {name!r}.{did_you_mean(name, known)}")
    return _kept(result, names) if names else result


def _kept(result: Result, names: Sequence[str]) -> Result:
    """The result with the rows of these names alone."""
    return replace(
        result,
        compressors=tuple(row for row in result.compressors if row.name in names),
        outages=tuple(row for row in result.outages if row.name in names),
    )


def _paired(new: str, old: str, result: Result, older: Result) -> Paired | None:
    """NMSE of the same users in both, where both lie in their run directories."""
    if result.data.sha256 is None or result.data.sha256 != older.data.sha256:
        return None
    if result.network is not None:
        return None
    found = []
    for name in (new, old):
        folder = Path(name) if Path(name).is_dir() else Path(name).parent
        try:
            flat = read_arrays(folder / SAMPLES_NAME, group="report")
            found.append(ReportArrays.from_flat(flat).nmse_real)
        except CsiAuditError:
            return None  # a result.json alone is judged by its intervals
    mine, its = found
    return {
        name: (np.asarray(mine[name]), np.asarray(its[name]))
        for name in mine.keys() & its.keys()
        if np.shape(mine[name]) == np.shape(its[name])
    }
