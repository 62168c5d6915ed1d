"""Whether a compressor is let into an audit, and what its readers must be told of it."""

import torch
from torch import Tensor

from channels.support import CsiAuditError
from compressors.loading import NamedCompressor
from compressors.preflight import check_compressor, run_preflight

PREFLIGHT_USERS = 24
"""Users that each compressor is tried on before anything is drawn."""


def preflight_cautions(named: NamedCompressor, x: Tensor, *, guided: bool) -> tuple[str, ...]:
    """What a preflight on a few users spread over the file warns of, a sentence each.

    A missing gradient is no matter unless it guides.

    Args:
        named: Just loaded.
        x: All channels under audit (N, 2 n_rx, n_tx, n_delay), unit power.
        guided: Whether a guided chain will follow its gradient.
    Raises:
        CsiAuditError: an audit would be meaningless, or the guided compressor has no gradient.
    """
    rows = torch.linspace(0, len(x) - 1, min(len(x), PREFLIGHT_USERS)).round().long()
    found = run_preflight(named.compressor, x[rows], name=named.name)
    refused = [verdict.words for verdict in found.verdicts if verdict.outcome == "fail"]
    if guided and found.verdict("gradient").outcome != "pass":
        refused.append(found.verdict("gradient").words)
    if refused:
        check_compressor(named.compressor, x[rows], name=named.name)  # with the cause, for --debug
        raise CsiAuditError(refused[0])
    return tuple(
        verdict.words if verdict.words.endswith((".", "?")) else f"{verdict.words}."
        for verdict in found.verdicts
        if verdict.outcome == "warn" and verdict.check != "gradient"
    )
