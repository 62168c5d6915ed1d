"""The strongest beam-delay taps of each channel, with what it costs to say which they are."""

import math
from typing import Any, Self

import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import stack_real, to_complex
from channels.support import CsiAuditError
from compressors.neural import CompressorNetwork
from compressors.quantisers import ScalarQuantiser, nearest_level, nearest_phase, straight_through

_USERS = 2000  # training users that parameters are compared on


class TopTaps(CompressorNetwork):
    """The k largest of the n angular-delay coefficients of each channel.

        S = argmax_k |x_i|,   x_hat_i = r_m exp(j 2 pi l_i / 2^phase_bits)  for i in S, else 0
        bits = k (amplitude_bits + phase_bits) + ceil(log2 C(n, k))

    The last term sends S by its number among all sets of k (enumerative code). A channel adapts
    its own basis, which no linear code does; sent for nothing, S makes this an oracle. Radii r are
    trained on what is left of each value along its rounded phase.

    A codeword holds 3 k numbers: k real parts and k imaginary parts, as quantised, and k positions
    in ascending order, since those are fed back too. The gradient passes the values of S as the
    identity; S itself is piecewise constant.

    Args:
        n_taps: k.
        amplitude_bits: Of each radius; None with phase_bits None leaves the values unquantised,
            and `bits` is then None. Radii are zero until `fit` or a weights file sets them.
        phase_bits: Of each phase.
        oracle: Whether S costs no bits: a bound, no compressor.
    Raises:
        CsiAuditError: more taps than the channel has, or bits out of range.
    Source: for the enumerative code, Cover, 1973, doi:10.1109/TIT.1973.1054929.
    """

    radii: Tensor

    def __init__(
        self,
        n_taps: int,
        *,
        amplitude_bits: int | None = None,
        phase_bits: int | None = None,
        oracle: bool = False,
        n_tx: int = 32,
        n_delay: int = 32,
        n_rx: int = 1,
        convention: Convention | None = None,
    ) -> None:
        self.shape = (n_rx, n_tx, n_delay)
        self.size = n_rx * n_tx * n_delay
        _check(n_taps, self.size, amplitude_bits, phase_bits)
        super().__init__(3 * n_taps, convention)
        self.n_taps, self.oracle = n_taps, oracle
        self.amplitude_bits, self.phase_bits = amplitude_bits, phase_bits
        self.register_buffer("radii", torch.zeros(2 ** (amplitude_bits or 0)))

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that build it again, besides its shape."""
        return {
            "n_taps": self.n_taps,
            "amplitude_bits": self.amplitude_bits,
            "phase_bits": self.phase_bits,
            "oracle": self.oracle,
        }

    @classmethod
    @torch.no_grad()
    def for_bits(cls, x: Tensor, bits: int, *, oracle: bool = False) -> Self:
        """The fitted code of at most `bits` bits with the least mean error on training channels.

        Args:
            x: Training channels (N, 2 n_rx, n_tx, n_delay); some 2,000 across the set are used.
            bits: Budget of a codeword.
            oracle: Whether the positions cost nothing.
        Raises:
            CsiAuditError: not even one tap fits into the budget.
        """
        n_rx, n_tx, n_delay = x.shape[1] // 2, x.shape[2], x.shape[3]
        x, size = x[:: max(1, len(x) // _USERS)], n_rx * n_tx * n_delay
        convention = Convention(event_shape=(2 * n_rx, n_tx, n_delay))
        found: list[tuple[float, Self]] = []
        for amplitude_bits in range(1, 7):
            for phase_bits in (amplitude_bits, amplitude_bits + 1):
                n_taps = _most_taps(bits, size, amplitude_bits + phase_bits, oracle=oracle)
                if n_taps == 0:
                    continue
                network = cls(
                    n_taps,
                    amplitude_bits=amplitude_bits,
                    phase_bits=phase_bits,
                    oracle=oracle,
                    n_tx=n_tx,
                    n_delay=n_delay,
                    n_rx=n_rx,
                    convention=convention,
                ).fit(x)
                found.append((float((network(x) - x).square().mean()), network))
        if not found:
            raise CsiAuditError(
                f"bits must pay for one tap of {size} and its position; got {bits}."
            )
        return min(found, key=lambda entry: entry[0])[1]

    @torch.no_grad()
    def fit(self, x: Tensor) -> Self:
        """Radii from training channels x (N, 2 n_rx, n_tx, n_delay); returns self."""
        if self.amplitude_bits is None or self.phase_bits is None:
            return self
        kept, _ = self._strongest(x)
        along = (kept * nearest_phase(kept, self.phase_bits).conj()).real
        self.radii.copy_(ScalarQuantiser.fit(along, self.amplitude_bits).levels)
        return self

    def encode(self, y: Tensor) -> Tensor:
        """Channels (N, 2 n_rx, n_tx, n_delay) -> (re, im, position) of the taps, (N, 3 n_taps)."""
        kept, position = self._strongest(y)
        sent = straight_through(kept, self._quantised(kept.detach()))
        return torch.cat((sent.real, sent.imag, position.to(sent.real)), dim=1).to(y.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Taps (N, 3 n_taps) -> channels (N, 2 n_rx, n_tx, n_delay), zero elsewhere."""
        real, imag, position = z.unflatten(1, (3, -1)).unbind(1)
        values = torch.complex(real, imag)
        y = values.new_zeros(len(z), self.size).scatter(1, position.detach().long(), values)
        return stack_real(y.unflatten(1, self.shape))

    def bits(self, z: Tensor) -> Tensor | None:
        """Bits of each codeword, all the same, int64 (N,); None where values are unquantised."""
        if self.amplitude_bits is None or self.phase_bits is None:
            return None
        value_bits = self.amplitude_bits + self.phase_bits
        total = _total_bits(self.n_taps, self.size, value_bits, oracle=self.oracle)
        return torch.full((len(z),), total, device=z.device)

    def _strongest(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The k largest coefficients, complex128 (N, k), and where they are, ascending.

        In double and by squares, which are rounded alike in every batch; of equals the first.
        """
        x = to_complex(y.double()).flatten(1)
        power = x.detach().real.square() + x.detach().imag.square()
        order = power.argsort(dim=1, descending=True, stable=True)
        position = order[:, : self.n_taps].sort(dim=1).values
        return x.gather(1, position), position

    def _quantised(self, kept: Tensor) -> Tensor:
        if self.phase_bits is None:
            return kept
        direction = nearest_phase(kept, self.phase_bits)
        along = (kept * direction.conj()).real
        radii = self.radii.double()
        return radii[nearest_level(along, radii)] * direction


def position_bits(n_taps: int, size: int) -> int:
    """Bits that say which n_taps of size coefficients are kept: ceil(log2 C(size, n_taps)), exact.

    >>> position_bits(1, 1024), position_bits(64, 1024)
    (10, 342)
    """
    return (math.comb(size, n_taps) - 1).bit_length()


def _total_bits(n_taps: int, size: int, value_bits: int, *, oracle: bool) -> int:
    return n_taps * value_bits + (0 if oracle else position_bits(n_taps, size))


def _most_taps(bits: int, size: int, value_bits: int, *, oracle: bool) -> int:
    """The most taps that a budget pays for; 0 if none.

    Searched from above: the bits do not rise with the taps where few are left out, since the
    positions of 2 in 1,024 cost more than 2 values of few bits.
    """
    most = min(size, bits // value_bits)
    fitting = (
        n for n in range(most, 0, -1) if _total_bits(n, size, value_bits, oracle=oracle) <= bits
    )
    return next(fitting, 0)


def _check(n_taps: int, size: int, amplitude_bits: int | None, phase_bits: int | None) -> None:
    if not 1 <= n_taps <= size:
        raise CsiAuditError(f"n_taps must lie in 1..{size}, the coefficients; got {n_taps}.")
    if (amplitude_bits is None) != (phase_bits is None):
        raise CsiAuditError(
            "amplitude_bits and phase_bits must be given together or not at all; got "
            f"{amplitude_bits} and {phase_bits}."
        )
    if amplitude_bits is None or phase_bits is None:
        return
    if not (0 <= amplitude_bits <= 8 and 1 <= phase_bits <= 12):
        raise CsiAuditError(
            "amplitude_bits must lie in 0..8 and phase_bits in 1..12; got "
            f"{amplitude_bits} and {phase_bits}."
        )
