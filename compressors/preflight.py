"""A first look at a compressor before anything is said about it: shape, values, determinism.

Refuses, in words, what would make every later figure meaningless.
"""

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.convention import Convention
from channels.support import CsiAuditError
from compressors.audit_space import AuditedCompressor, Compressor, in_audit_space


@torch.inference_mode()
def check_compressor(compressor: Compressor, x: Tensor, *, name: str) -> None:
    """Run a few channels through a compressor and refuse what cannot be audited.

    Args:
        compressor: Under audit.
        x: A few audit-space channels (N, 2 n_rx, n_tx, n_delay), N >= 2.
        name: For the messages.
    Raises:
        CsiAuditError: it fails on these channels, has codewords of another length than it says,
            returns another shape, NaN or infinity, differs
            between two calls (dropout left on?), lets a sample depend on its neighbours, or loses
            nothing at all.
    """
    audited = in_audit_space(compressor)
    x_hat = _reconstruct(audited, x, name)
    _check_code(audited, x, name)
    if x_hat.shape != x.shape:
        raise CsiAuditError(
            f"compressor {name} returns {tuple(x_hat.shape)} for channels {tuple(x.shape)}. "
            "Check its convention (domain, crop, layout)."
        )
    if not bool(torch.isfinite(x_hat).all()):
        raise CsiAuditError(f"compressor {name} returns NaN or infinity. Check its scaling.")
    if not torch.equal(_reconstruct(audited, x, name), x_hat):
        raise CsiAuditError(
            f"compressor {name} answers the same channels differently each time. "
            "Is dropout on? Call eval() on it."
        )
    alone = torch.cat([_reconstruct(audited, row, name) for row in x.split(1)])
    if not torch.allclose(alone, x_hat, rtol=1e-3, atol=1e-3):
        raise CsiAuditError(
            f"compressor {name} reconstructs a channel differently alone and in a batch: "
            "its distortion per channel is undefined. Does it attend or normalise over the batch?"
        )
    if torch.equal(x_hat, x):
        raise CsiAuditError(
            f"compressor {name} returns every channel without error: there is nothing to audit. "
            "Does decode see the channel itself?"
        )


def _check_code(audited: AuditedCompressor, x: Tensor, name: str) -> None:
    """The codeword must have the length that every comparison at equal length relies on."""
    z = audited.codeword(x)
    numbers = z[0].numel() * (2 if z.is_complex() else 1)
    if len(z) != len(x) or numbers != audited.n_code:
        raise CsiAuditError(
            f"compressor {name} says n_code = {audited.n_code}, but encode returns "
            f"{tuple(z.shape)} for {len(x)} channels: {numbers} real numbers each. "
            "Set n_code to what is fed back."
        )


def check_panel(convention: Convention, grid: Grid, *, name: str) -> None:
    """Refuse a compressor that takes the transmit axis for another array than the data's.

    The audit space has the data's own transform over rows and columns; only that leads back to
    spatial-frequency. In the angular-delay domain a compressor is given the audit space as it is.

    Args:
        convention: The compressor's own.
        grid: Of the channels under audit.
        name: For the message.
    Raises:
        CsiAuditError: the domain is spatial-frequency and the panels differ.
    """
    row = (1, 1, convention.event_shape[1])
    own, data = convention.panel or row, grid.panel or row
    if convention.domain == "spatial-frequency" and own != data:
        raise CsiAuditError(
            f"compressor {name} must have the data's panel {data} (pol, rows, columns), since it "
            f"works on the antennas themselves; its convention has {own}. Set "
            f"Convention(panel={data}), or give the data the panel it was made for."
        )


def check_gradient(compressor: Compressor, x: Tensor, *, name: str) -> None:
    """Refuse a compressor whose output does not depend on its input as far as autograd can see.

    Raises:
        CsiAuditError: no gradient, or one that is zero or not finite.
    """
    leaf = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        x_hat = in_audit_space(compressor)(leaf)
        (slope,) = (
            torch.autograd.grad(x_hat.square().sum(), leaf, allow_unused=True)
            if x_hat.requires_grad
            else (None,)
        )
    if slope is None or not bool(torch.isfinite(slope).all()) or not bool(slope.any()):
        raise CsiAuditError(
            f"compressor {name} has no usable gradient, which guided sampling (issgm) follows. "
            "Does it round, detach or use numpy? Audit it without issgm."
        )


def _reconstruct(audited: AuditedCompressor, x: Tensor, name: str) -> Tensor:
    """x_hat, or in words what went wrong; the user's code may raise anything."""
    try:
        return audited(x)
    except CsiAuditError as error:
        raise CsiAuditError(f"compressor {name}: {error}") from error
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        reason = type(error).__name__ + (f" ({first})" if first else "")
        raise CsiAuditError(
            f"compressor {name} fails on channels {tuple(x.shape)}: {reason}. "
            "Was it built for another number of antennas or taps, or another convention?"
        ) from error
