"""A beam-delay codebook in the manner of 3GPP enhanced Type II (Release 16), in audit space.

TS 38.214, section 5.2.2.2.5, as far as one polarisation, one row of antennas and one layer go:

    | feature                                 | here                                             |
    |-----------------------------------------|--------------------------------------------------|
    | L beams of one orthogonal DFT group,    | as there, along one row (N1 = n_tx, N2 = 1);     |
    | the group by rotation, O1 = 4           | L is free, not 2, 4 or 6                         |
    | M delays of N3, the strongest one first | as there; N3 = n_delay, a subcarrier a unit      |
    | window of 2 M delays where N3 > 19      | as there, unless 2 M reaches N3                  |
    | bitmap, strongest coefficient, count    | as there, with the bit widths of rank 1          |
    | 3-bit amplitudes, 16-PSK phases         | as there, relative to the strongest              |
    | two polarisations, reference amplitude  | no: one polarisation has no second reference     |
    | of the weaker one                       |                                                  |
    | ranks 2 to 4, port selection, subset    | no                                               |
    | restriction, subbands of several units, |                                                  |
    | omission priorities, Part 1/Part 2, CQI |                                                  |

The standard feeds back a precoder: the gain, the global phase and the delay of the strongest
coefficient are lost, and so is the power of each subcarrier. SGCS is its metric; NMSE is not
defined. Here the coefficients are the channel's own, and those three (`CHANNEL_ITEMS` of
compressors.beam_report) are sent beside the report in bits that `bits` counts, so that NMSE is
defined and paid for. The report itself does not change when a channel is scaled or its phase
turned.
"""

from dataclasses import asdict
from typing import Any, Self

import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import stack_real, to_complex
from channels.support import CsiAuditError
from compressors.beam_report import GAIN_BITS, GAIN_PHASE_BITS, PHASE_BITS, BeamReport
from compressors.neural import CompressorNetwork
from compressors.quantisers import nearest_level, nearest_phase, straight_through

_GAINS_AN_OCTAVE = 8  # 2^6 gains reach 48 dB below the largest possible
_USERS = 500  # training users that parameters are compared on


class BeamCodebook(CompressorNetwork):
    """Sum of few beams and delays with coarse coefficients; see the module for what it covers.

        x_hat = g sum_{i, f} p_if exp(j 2 pi l_if / 16) v_i y_f^T,   v_i, y_f: DFT vectors,
        p_if in {1, 2^(-1/2), ..., 2^(-7/2)}, at most n_kept of the n_beams n_delays not zero

    The encoder takes on each grid the beams with the most energy, and the grid whose n_kept largest
    coefficients hold the most; then the delays with the most energy on these beams, then the
    largest coefficients, and drops those that the smallest amplitude would only make worse: the
    bits differ from channel to channel. g is the least-squares gain, quantised in logarithm and
    phase; it assumes unit mean power.

    A codeword holds rotation, delay of the strongest, n_beams beams, n_delays delays, and for each
    of n_kept coefficients its real part, imaginary part (both 0 where dropped) and position: all
    that is fed back as numbers. The gradient passes the kept coefficients as the identity.

    Args:
        n_beams: L.
        n_delays: M.
        n_kept: K0, coefficients at most.
        oversampling: O1, rotations of the beam grid.
    Raises:
        CsiAuditError: a count is out of range, or the transmit array is no single row.
    """

    def __init__(
        self,
        n_beams: int,
        n_delays: int,
        n_kept: int,
        *,
        oversampling: int = 4,
        n_tx: int = 32,
        n_delay: int = 32,
        convention: Convention | None = None,
    ) -> None:
        super().__init__(2 + n_beams + n_delays + 3 * n_kept, convention)
        if self.convention.panel is not None:
            raise CsiAuditError(
                "a beam codebook reads one row of antennas of one polarisation; got the panel "
                f"{self.convention.panel} (pol, rows, columns)."
            )
        self.report = BeamReport(
            n_beams=n_beams,
            n_delays=n_delays,
            n_kept=n_kept,
            oversampling=oversampling,
            n_tx=n_tx,
            n_delay=n_delay,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that build it again, besides its shape."""
        described = asdict(self.report)
        return {name: described[name] for name in described if name not in ("n_tx", "n_delay")}

    @classmethod
    def of_report(cls, report: BeamReport) -> Self:
        """The codebook with these parameters, on audit space as it is."""
        convention = Convention(event_shape=(2, report.n_tx, report.n_delay))
        return cls(**asdict(report), convention=convention)

    @classmethod
    @torch.no_grad()
    def for_bits(cls, x: Tensor, bits: int) -> Self:
        """The codebook of at most `bits` bits, in every channel, with the least mean error.

        Args:
            x: Training channels (N, 2, n_tx, n_delay); some 500 across the set are used.
            bits: Budget of a codeword.
        Raises:
            CsiAuditError: several receive antennas, or the budget pays for no codebook.
        """
        if x.shape[1] != 2:
            raise CsiAuditError(
                f"a beam codebook reads one receive antenna; got {x.shape[1] // 2}. A precoder of "
                "several is no channel; split the antennas into users."
            )
        x = x[:: max(1, len(x) // _USERS)]
        reports = BeamReport.within(bits, n_tx=x.shape[2], n_delay=x.shape[3])
        found = [cls.of_report(report) for report in reports]
        if not found:
            raise CsiAuditError(f"bits must pay for one beam and one delay; got {bits}.")
        return min(found, key=lambda network: float((network(x) - x).square().mean()))

    def bits(self, z: Tensor) -> Tensor:
        """Bits of each codeword, int64 (N,); the number of its coefficients decides."""
        n_kept = self.report.n_kept
        totals = [sum(self.report.bit_items(n).values()) for n in range(1, n_kept + 1)]
        real, imag = self._split(z)[4:6]
        n_nonzero = ((real != 0) | (imag != 0)).sum(1).clamp_min(1)
        return torch.tensor(totals, device=z.device)[n_nonzero - 1]

    def encode(self, y: Tensor) -> Tensor:
        """Channels (N, 2, n_tx, n_delay) -> codewords (N, n_code), see the class."""
        rotation, beams, rows = self._best_beams(self._turned(to_complex(y.double())[:, 0]))
        power = _power(rows)
        strongest = power.amax(1).argmax(1)  # its delay, which becomes 0
        every = torch.arange(self.report.n_delay, device=y.device)
        order = (strongest[:, None] + every) % self.report.n_delay
        delays = self._best_delays(power.sum(1).gather(1, order))
        where = order.gather(1, delays)[:, None].expand(-1, self.report.n_beams, -1)
        grid = rows.gather(2, where).flatten(1)  # (N, L M)
        position = _largest(_power(grid), self.report.n_kept)
        kept = grid.gather(1, position)
        sent = self._quantised(kept.detach())
        value = torch.where(sent == 0, 0, straight_through(kept, sent))
        side = torch.cat((rotation[:, None], strongest[:, None], beams, delays), 1).to(value.real)
        return torch.cat((side, value.real, value.imag, position.to(side)), 1).to(y.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> channels (N, 2, n_tx, n_delay)."""
        rotation, strongest, beams, delays, real, imag, position = self._split(z)
        values = torch.complex(real, imag)
        position = position.detach().round().long()
        beam = beams.detach().round().long().gather(1, position // self.report.n_delays)
        delay = delays.detach().round().long().gather(1, position % self.report.n_delays)
        delay = (delay + strongest.detach().round().long()) % self.report.n_delay
        flat = values.new_zeros(len(z), self.report.n_tx * self.report.n_delay)
        turned = flat.scatter_add(1, beam * self.report.n_delay + delay, values)
        turned = turned.unflatten(1, (self.report.n_tx, self.report.n_delay))
        ramps = self._ramps(values)[rotation.detach().round().long()[:, 0]].conj()
        antennas = torch.fft.ifft(turned, dim=1) * ramps[:, :, None]
        return stack_real(torch.fft.fft(antennas, dim=1)[:, None])

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        """Rotation, delay of the strongest, beams, delays, re, im, positions of codewords."""
        k = self.report.n_kept
        return z.split([1, 1, self.report.n_beams, self.report.n_delays, k, k, k], dim=1)

    def _ramps(self, like: Tensor) -> Tensor:
        """exp(-j 2 pi a q / (O n_tx)): moves the beam grid by q/O of a bin, (O, n_tx)."""
        q = torch.arange(self.report.oversampling, device=like.device, dtype=torch.float64)
        a = torch.arange(self.report.n_tx, device=like.device, dtype=torch.float64)
        angle = -2 * torch.pi * q[:, None] * a / (self.report.oversampling * self.report.n_tx)
        return torch.polar(torch.ones_like(angle), angle).to(like.dtype)

    def _turned(self, x: Tensor) -> Tensor:
        """Angular-delay channels x (N, n_tx, n_delay) on each rotated grid, (N, O, ...)."""
        antennas = torch.fft.ifft(x, dim=1)[:, None] * self._ramps(x)[:, :, None]
        return torch.fft.fft(antennas, dim=2)

    def _best_beams(self, turned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotation (N,), its beams (N, L) and their coefficients (N, L, n_delay)."""
        power = _power(turned)  # (N, O, n_tx, n_delay)
        beams = _largest(power.sum(-1), self.report.n_beams)  # (N, O, L)
        delays = self.report.n_delay
        power = power.gather(2, beams[..., None].expand(-1, -1, -1, delays))
        held = power.flatten(2).topk(self.report.n_kept, dim=2).values.sum(2)  # (N, O)
        # Equal but for rounding, as where all coefficients are kept: the first of them.
        rotation = (held >= (1 - 1e-9) * held.amax(1, keepdim=True)).int().argmax(1)
        beams = beams.gather(1, rotation[:, None, None].expand(-1, 1, beams.shape[2]))[:, 0]
        users = torch.arange(len(turned), device=turned.device)
        mine = turned[users, rotation]  # (N, n_tx, n_delay)
        return rotation, beams, mine.gather(1, beams[:, :, None].expand(-1, -1, delays))

    def _best_delays(self, power: Tensor) -> Tensor:
        """Delay 0 and the M - 1 strongest others, of the best window where there is one, (N, M).

        A window is 2 M neighbours that hold delay 0, cyclically.
        """
        n, m = self.report.n_delay, self.report.n_delays
        power = power.clone()
        power[:, 0] = torch.inf  # always one of them
        if not self.report.is_windowed:
            return _largest(power, m)
        start = torch.arange(-2 * m + 1, 1, device=power.device)
        inside = (start[:, None] + torch.arange(2 * m, device=power.device)) % n  # (2 M, 2 M)
        best = _largest(power[:, inside], m)  # (N, 2 M, M)
        found = inside.expand(len(power), -1, -1).gather(2, best)
        others = power.masked_fill(power.isinf(), 0)
        total = others[:, None].expand(-1, 2 * m, -1).gather(2, found).sum(2)
        choice = total.argmax(1)[:, None, None].expand(-1, 1, m)
        return found.gather(1, choice)[:, 0].sort(dim=1).values

    def _quantised(self, kept: Tensor) -> Tensor:
        """The coefficients (N, K) as they are sent: gain times relative amplitude and phase."""
        strongest = _power(kept).argmax(1, keepdim=True)
        top = kept.gather(1, strongest)
        relative = kept / torch.where(top == 0, 1, top)
        relative = relative.scatter(1, strongest, 1)  # as it is known to be
        levels = torch.exp2(-torch.arange(7, -1, -1, dtype=torch.float64) / 2).to(kept.device)
        size = relative.abs()
        shape = levels[nearest_level(size, levels)] * nearest_phase(relative, PHASE_BITS)
        shape = torch.where(size > levels[0] / 2, shape, 0)  # else 0 is nearer
        return shape * self._gain(kept, shape)

    def _gain(self, kept: Tensor, shape: Tensor) -> Tensor:
        """Least-squares gain (N, 1) of the shape, in logarithmic steps and 64-PSK."""
        gain = (shape.conj() * kept).sum(1, keepdim=True) / _power(shape).sum(1, keepdim=True)
        largest = (self.report.n_tx * self.report.n_delay) ** 0.5  # of a channel of unit mean power
        steps = -_GAINS_AN_OCTAVE * (gain.abs() / largest).clamp_min(1e-30).log2()
        steps = steps.round().clamp(0, 2**GAIN_BITS - 1)
        return (
            largest * torch.exp2(-steps / _GAINS_AN_OCTAVE) * nearest_phase(gain, GAIN_PHASE_BITS)
        )


def _power(x: Tensor) -> Tensor:
    """|x|^2 by squares, which are rounded alike in every batch; without gradient."""
    x = x.detach()
    return x.real.square() + x.imag.square()


def _largest(power: Tensor, n: int) -> Tensor:
    """Indices of the n largest along the last axis, ascending; of equals the first."""
    order = power.argsort(dim=-1, descending=True, stable=True)
    return order[..., :n].sort(dim=-1).values
