"""What a report of the beam codebook holds, and the bits of each item.

The counts follow TS 38.214, section 5.2.2.2.5, for one polarisation and rank 1;
compressors.beam_codebook makes and reads the report.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from channels.support import CsiAuditError
from compressors.top_taps import position_bits

AMPLITUDE_BITS, PHASE_BITS = 3, 4
GAIN_BITS, GAIN_PHASE_BITS = 6, 6
FREE_DELAYS = 19  # N3 up to which the standard leaves the choice of delays free

CHANNEL_ITEMS = ("gain amplitude", "gain phase", "delay of the strongest")
"""What a precoder does without and a channel needs; not of the standard."""


@dataclass(frozen=True, kw_only=True)
class BeamReport:
    """The parameters of a report.

    Attributes:
        n_beams: L.
        n_delays: M.
        n_kept: K0, coefficients at most.
        oversampling: O1, rotations of the beam grid.
        n_tx: Antennas, N1.
        n_delay: Delays, N3.
    """

    n_beams: int
    n_delays: int
    n_kept: int
    oversampling: int = 4
    n_tx: int = 32
    n_delay: int = 32

    def __post_init__(self) -> None:
        limits = {
            "n_beams": self.n_tx,
            "n_delays": self.n_delay,
            "n_kept": self.n_beams * self.n_delays,
            "oversampling": 16,
        }
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise CsiAuditError(f"{name} must lie in 1..{most}; got {getattr(self, name)}.")

    @classmethod
    def within(cls, bits: int, *, n_tx: int = 32, n_delay: int = 32) -> Iterator["BeamReport"]:
        """Reports of at most `bits` bits: for each grid of beams and delays the fullest one."""
        for n_beams in (n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n <= n_tx):
            for n_delays in (n for n in (1, 2, 4, 6, 8, 12, 16) if n <= max(1, n_delay // 2)):
                least = cls(
                    n_beams=n_beams, n_delays=n_delays, n_kept=1, n_tx=n_tx, n_delay=n_delay
                )
                full = [replace(least, n_kept=n) for n in range(1, n_beams * n_delays + 1)]
                fitting = [report for report in full if report.most_bits <= bits]
                yield from fitting[-1:]

    @property
    def is_windowed(self) -> bool:
        """Whether delays come from a window of 2 M neighbours, as where N3 > 19."""
        return self.n_delay > FREE_DELAYS and 2 * self.n_delays < self.n_delay

    @property
    def most_bits(self) -> int:
        """Bits with all coefficients present."""
        return sum(self.bit_items(self.n_kept).values())

    def bit_items(self, n_nonzero: int) -> dict[str, int]:
        """Bits with n_nonzero coefficients, item by item; the indices are those of TS 38.214."""
        n, window = n_nonzero, 2 * self.n_delays
        others = (window if self.is_windowed else self.n_delay) - 1  # delay 0 is always there
        return {
            "rotation (i1,1)": index_bits(self.oversampling),
            "beams (i1,2)": position_bits(self.n_beams, self.n_tx),
            "delay window (i1,5)": index_bits(window) if self.is_windowed else 0,
            "delays (i1,6)": position_bits(self.n_delays - 1, others),
            "bitmap (i1,7)": self.n_beams * self.n_delays,
            "strongest (i1,8)": index_bits(n),
            "amplitudes (i2,4)": AMPLITUDE_BITS * (n - 1),
            "phases (i2,5)": PHASE_BITS * (n - 1),
            "count of coefficients": index_bits(self.n_kept),
            "gain amplitude": GAIN_BITS,
            "gain phase": GAIN_PHASE_BITS,
            "delay of the strongest": index_bits(self.n_delay),
        }


def index_bits(n: int) -> int:
    """Bits that name one of n: ceil(log2 n).

    >>> [index_bits(n) for n in (1, 2, 3, 32)]
    [0, 1, 2, 5]
    """
    return (n - 1).bit_length()
