"""Audit a compressor of your own beside a bundled one, on the bundled real channels.

    python examples/audit_own_compressor.py

The class is all that csi-audit needs. On the command line the same audit reads

    csi-audit run --data channels.mat --compressor examples/audit_own_compressor.py:FirstTaps
"""

from torch import Tensor

import csi_audit
from channels import Convention
from channels.sample import sample_path


class FirstTaps:
    """Keeps two delay taps: 2 taps x 32 antennas x 2 real numbers."""

    n_code = 128
    convention = Convention()  # unit-power angular-delay channels (N, 2, 32, 32) as they are

    def encode(self, y: Tensor) -> Tensor:
        return y[..., :2].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        y_hat = z.new_zeros(len(z), 2, 32, 32)
        y_hat[..., :2] = z.unflatten(1, (2, 32, 2))
        return y_hat

    def bits(self, z: Tensor) -> None:
        return None  # not quantised


if __name__ == "__main__":
    result = csi_audit.audit(
        csi_audit.RunConfig(
            data=str(sample_path()),
            compressor=("klt-16", f"{__file__}:FirstTaps"),
            out="runs/first-taps",
            n_base=200,
        )
    )
    for row in result.compressors:
        tail = row.estimates.tails[-1]
        print(f"{row.name}: mean NMSE {row.mean_db('real'):.2f} dB on real channels,", end=" ")
        if tail.real is not None and tail.base is not None:
            print(f"P(NMSE > {tail.nmse_db:g} dB) = {tail.real.value:.3f} real,", end=" ")
            print(f"{tail.base.value:.3f} on base samples ({tail.agreement})")
    print("Report: runs/first-taps/report.html")
