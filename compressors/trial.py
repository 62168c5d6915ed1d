"""One compressor tried on a few channels: its passes, each made once, and its errors in words.

Nothing here judges; `compressors.preflight_checks` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from channels.channel_set import Grid
from channels.convention import Convention
from channels.support import CsiAuditError
from compressors.audit_space import Compressor
from compressors.metrics import feedback_bits


class Stages(NamedTuple):
    """The way through: y, side = to_own(x), z = encode(y), y_hat = decode(z), x_hat = from_own."""

    y: Tensor
    side: Tensor | None
    z: Tensor
    y_hat: Tensor
    x_hat: Tensor


class Trial:
    """A compressor with the channels it is tried on.

    Args:
        compressor: Under audit.
        x: Audit-space channels (N, 2 n_rx, n_tx, n_delay).
        name: Of the compressor, for messages.
        grid: Of the channels; None if unknown.
    """

    def __init__(
        self, compressor: Compressor, x: Tensor, *, name: str, grid: Grid | None = None
    ) -> None:
        self.compressor = compressor
        self.x = x
        self.name = name
        self.grid = grid

    @property
    def convention(self) -> Convention:
        return self.compressor.convention

    @cached_property
    def first(self) -> Stages:
        """The first pass over all channels."""
        return self.run(self.x)

    @cached_property
    def again(self) -> Tensor:
        """x_hat of a second pass."""
        return self.run(self.x).x_hat

    @cached_property
    def alone(self) -> Tensor:
        """x_hat where each channel is a batch of its own."""
        return torch.cat([self.run(row).x_hat for row in self.x.split(1)])

    @cached_property
    def bits(self) -> Tensor | None:
        """Bits of each codeword of the first pass."""
        with self._in_words(self.x):
            return feedback_bits(self.compressor, self.first.z)

    @cached_property
    def modules(self) -> tuple[nn.Module, ...]:
        """The torch modules that the compressor is, or holds as attributes."""
        held = (self.compressor, *getattr(self.compressor, "__dict__", {}).values())
        found = (part for part in held if isinstance(part, nn.Module))
        return tuple(dict.fromkeys(module for part in found for module in part.modules()))

    def run(self, x: Tensor, convention: Convention | None = None) -> Stages:
        """One pass, by the compressor's own convention unless another is given.

        Raises:
            CsiAuditError: the compressor's code raised anything; the message says what.
        """
        own = convention or self.convention
        with self._in_words(x):
            y, side = own.to_own(x)
            z = self.compressor.encode(y)
            if not isinstance(z, Tensor):
                raise TypeError(f"encode must return a tensor; got {type(z).__name__}")
            y_hat = self.compressor.decode(z)
            return Stages(y, side, z, y_hat, own.from_own(y_hat, side))

    def decoded(self, z: Tensor, side: Tensor | None) -> Tensor:
        """Reconstructions of codewords, in the audit space.

        Raises:
            CsiAuditError: as `run`.
        """
        with self._in_words(self.x):
            return self.convention.from_own(self.compressor.decode(z), side)

    @contextmanager
    def _in_words(self, x: Tensor) -> Iterator[None]:
        try:
            yield
        except CsiAuditError as error:
            raise CsiAuditError(f"compressor {self.name}: {error}") from error
        except Exception as error:  # the user's code may raise anything
            first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            reason = type(error).__name__ + (f" ({first})" if first else "")
            raise CsiAuditError(
                f"compressor {self.name} fails on channels {tuple(x.shape)}: {reason}. "
                "Was it built for another number of antennas or taps, or another convention?"
            ) from error
