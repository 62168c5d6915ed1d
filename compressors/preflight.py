"""A look at a compressor before anything is said about it.

`run_preflight` tells all that it finds; the three `check_...` refuse, in words, what would make
every later figure meaningless. The checks are those of `compressors.preflight_checks`.
"""

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.convention import Convention
from channels.support import CsiAuditError
from compressors.audit_space import Compressor
from compressors.preflight_checks import CHECKS, Check, compare_panels, find_gradient
from compressors.trial import Trial
from compressors.verdicts import Finding, Outcome, Preflight, Verdict


@torch.no_grad()
def run_preflight(
    compressor: Compressor, x: Tensor, *, name: str, grid: Grid | None = None
) -> Preflight:
    """Run a few channels through a compressor and tell what is found.

    Args:
        compressor: Under audit; whatever it raises becomes a verdict.
        x: Audit-space channels (N, 2 n_rx, n_tx, n_delay), unit power; some checks take N >= 20.
        name: For the messages.
        grid: Of the channels; None leaves the transmit array unchecked.
    Returns:
        A verdict for each of `compressors.preflight_checks.CHECKS`.
    Raises:
        CsiAuditError: x holds no channel.
    """
    _check_some(x)
    trial = Trial(compressor, x, name=name, grid=grid)
    verdicts: dict[str, Verdict] = {}
    with torch.random.fork_rng(devices=[]):  # dropout left on would move the user's generator
        for check in CHECKS:
            missing = [need for need in check.needs if _failed(verdicts[need].outcome)]
            found = _unreached(missing) if missing else _find(check, trial)
            verdicts[check.name] = Verdict(check=check.name, **found._asdict())
    return Preflight(name=name, n=len(x), verdicts=tuple(verdicts.values()))


def _find(check: Check, trial: Trial) -> Finding:
    try:
        return check.find(trial)
    except CsiAuditError as error:
        return Finding("fail" if check.refuses else "warn", str(error))


def _failed(outcome: Outcome) -> bool:
    return outcome == "fail"


def _unreached(missing: list[str]) -> Finding:
    return Finding("not applicable", f"nothing to measure: {missing[0]} failed")


@torch.no_grad()
def check_compressor(compressor: Compressor, x: Tensor, *, name: str) -> None:
    """Run a few channels through a compressor and refuse what cannot be audited.

    Args:
        compressor: Under audit.
        x: A few audit-space channels (N, 2 n_rx, n_tx, n_delay), N >= 2.
        name: For the messages.
    Raises:
        CsiAuditError: it fails on these channels, has codewords of another length than it says,
            returns another shape, NaN or infinity, differs between two calls (dropout left on?),
            lets a sample depend on its neighbours, loses nothing at all, does not reconstruct
            from its code alone, or is fed or cropped against its convention.
    """
    _check_some(x)
    trial = Trial(compressor, x, name=name)
    with torch.random.fork_rng(devices=[]):
        for check in CHECKS:
            if check.refuses:
                _refuse_failure(check.find(trial))


def check_panel(convention: Convention, grid: Grid, *, name: str) -> None:
    """Refuse a compressor that takes the transmit axis for another array than the data's.

    Args:
        convention: The compressor's own.
        grid: Of the channels under audit.
        name: For the message.
    Raises:
        CsiAuditError: the domain is spatial-frequency and the panels differ.
    """
    _refuse_failure(compare_panels(convention, grid, name=name))


def check_gradient(compressor: Compressor, x: Tensor, *, name: str) -> None:
    """Refuse a compressor whose output does not depend on its input as far as autograd can see.

    Raises:
        CsiAuditError: no gradient, or one that is zero or not finite.
    """
    found = find_gradient(Trial(compressor, x, name=name))
    if found.outcome != "pass":
        raise CsiAuditError(found.words)


def _refuse_failure(found: Finding) -> None:
    if _failed(found.outcome):
        raise CsiAuditError(found.words)


def _check_some(x: Tensor) -> None:
    if len(x) < 1:
        raise CsiAuditError(f"x must hold at least one channel; got {tuple(x.shape)}.")
