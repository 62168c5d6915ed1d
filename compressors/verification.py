"""A compressor on the COST2100 test set, measured as published tables are and as it should be.

The family of CRNet feeds its networks y = s h + 0.5 with one s for all users, so a user's power
counts; it is put back here from what reading took out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from channels.channel_set import ChannelSet, audit_space
from channels.domains import to_complex, to_spatial_frequency
from channels.support import CsiAuditError
from compressors.metrics import crnet_nmse_db, nmse, nmse_db, rho
from compressors.neural import CompressorNetwork
from compressors.published_numbers import PublishedNumber
from compressors.transnet import APPLIED, TransNet

BATCH_SIZE = 200
"""Channels a batch in published evaluations."""
TOLERANCE_DB = 0.05
"""Within this of a published figure, which has two decimals, it counts as reproduced."""
_OFFSET = 0.5
_PADDED_TAPS, _TONES = 257, 125  # of the published comparison in the frequency domain


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was measured on a test set.

    Attributes:
        n: Channels.
        batch_size: Channels a batch.
        batches_db: Mean over batches of each batch's NMSE in dB, as CRNet, CLNet and TransNet
            report it.
        linear_db: Mean of linear NMSE over channels, then dB.
        rho: Cosine similarity to the frequency-domain channels; None without those.
    """

    n: int
    batch_size: int
    batches_db: float
    linear_db: float
    rho: float | None

    def against(self, published: PublishedNumber) -> float:
        """Measured minus published NMSE [dB], both averaged as the published one is."""
        own = self.batches_db if published.averaging == "batches" else self.linear_db
        return own - published.nmse_db


@torch.inference_mode()
def verify_compressor(
    reconstruct: Callable[[Tensor], Tensor],
    channels: ChannelSet,
    *,
    frequency: ChannelSet | None = None,
    batch_size: int = BATCH_SIZE,
) -> Verification:
    """Measure a compressor on a test set in its stored scale.

        y_n = 10^(power_n / 20) x_n + 0.5

    Args:
        reconstruct: y -> y_hat, planes (N, 2, n_tx, n_delay) in [0, 1] about 0.5.
        channels: The test set (HT), in the file's order.
        frequency: The same users in the frequency domain (HF_all), 125 subcarriers.
        batch_size: Channels a batch; it moves the mean of decibels.
    Raises:
        CsiAuditError: the two sets have not the same users, or other subcarriers; batch_size is
            below 1.
    """
    if batch_size < 1:
        raise CsiAuditError(f"batch_size must be at least 1; got {batch_size}.")
    if frequency is not None:
        _check_pair(channels, frequency)
    batches, errors, cosines = [], [], []
    for start in range(0, len(channels), batch_size):
        part = channels.subset(slice(start, start + batch_size))
        y = stored_scale(part)
        y_hat = reconstruct(y)
        batches.append(crnet_nmse_db(y, y_hat, batch_size=batch_size, offset=_OFFSET))
        errors.append(nmse(y - _OFFSET, y_hat - _OFFSET))
        if frequency is not None:
            h = frequency.subset(slice(start, start + batch_size)).h
            cosines.append(rho(h, _in_frequency(y_hat)))
    return Verification(
        n=len(channels),
        batch_size=batch_size,
        batches_db=sum(batches) / len(batches),
        linear_db=float(nmse_db(torch.cat(errors).mean())),
        rho=float(torch.cat(cosines).mean()) if cosines else None,
    )


def stored_scale(channels: ChannelSet) -> Tensor:
    """Channels as COST2100 sets store them: y = 10^(power / 20) x + 0.5, float32 planes."""
    gain = 10 ** (channels.power_db.double() / 20)
    return (gain.view(-1, 1, 1, 1) * audit_space(channels) + _OFFSET).float()


def as_published(network: CompressorNetwork) -> Callable[[Tensor], Tensor]:
    """y -> y_hat of the authors' own code: for TransNet each user attends to those of his batch."""
    return partial(_across_batch, network) if isinstance(network, TransNet) else network


def _across_batch(network: TransNet, y: Tensor) -> Tensor:
    """TransNet with the axes of tokens and users exchanged wherever it attends."""
    tokens = (network.shape[1], -1)
    asked = y.flatten(1).unflatten(1, tokens).transpose(0, 1)  # (token, user, width)
    for _ in range(APPLIED):
        asked = network.encoder(asked, asked)
    z = network.to_code(asked.transpose(0, 1).flatten(1))
    memory = network.from_code(z).unflatten(1, tokens).transpose(0, 1)
    answer = memory
    for _ in range(APPLIED):
        answer = network.decoder(answer, memory)
    y_hat: Tensor = network.norm(answer).transpose(0, 1).reshape(y.shape)
    return y_hat


def _in_frequency(y_hat: Tensor) -> Tensor:
    """The first 125 of 257 subcarriers of reconstructions, complex (N, 1, n_tx, 125)."""
    taps = to_complex(y_hat - _OFFSET)
    padded = torch.nn.functional.pad(taps, (0, _PADDED_TAPS - taps.shape[-1]))
    return to_spatial_frequency(padded)[..., :_TONES]


def _check_pair(channels: ChannelSet, frequency: ChannelSet) -> None:
    if len(frequency) != len(channels) or frequency.n_tx != channels.n_tx:
        raise CsiAuditError(
            f"the frequency-domain set must hold the same users; got {len(frequency)} of "
            f"{frequency.n_tx} antennas beside {len(channels)} of {channels.n_tx}. Both files must "
            "be of one scenario (Htestin with HtestFin_all)."
        )
    if frequency.n_sub != _TONES:
        raise CsiAuditError(
            f"the frequency-domain set must have {_TONES} subcarriers; got {frequency.n_sub}."
        )
