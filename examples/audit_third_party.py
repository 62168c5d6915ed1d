"""Audit a codec of two files that somebody else wrote, in two ways that give the same figures.

    python examples/audit_third_party.py          a few minutes

As code, an adapter of a dozen lines names its scaling. As exported models, a card of four lines
does, and no code of the codec is needed. On the command line:

    csi-audit run --data channels.mat --compressor examples/audit_third_party.py:ThirdParty
    csi-audit run --data channels.mat --compressor runs/third-party/codec.yaml
"""

from pathlib import Path

import torch
from torch import Tensor

import csi_audit
from channels import Convention, load_object
from channels.sample import sample_path

CODEC = Path(__file__).resolve().parent / "third_party"
CARD = """encoder: encoder.pt2
decoder: decoder.pt2
name: exported
convention: {scaling: sample_peak, scale: 0.5, offset: 0.5}
"""


class ThirdParty:
    """Their channels are x / (2 max|x|) + 0.5, each by its own maximum."""

    n_code = 256
    convention = Convention(scaling="sample_peak", scale=0.5, offset=0.5)

    def __init__(self) -> None:
        self.encoder = load_object(f"{CODEC / 'encoder.py'}:Encoder")().eval()
        self.decoder = load_object(f"{CODEC / 'decoder.py'}:Decoder")().eval()

    def encode(self, y: Tensor) -> Tensor:
        return self.encoder(y)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def bits(self, z: Tensor) -> None:
        return None  # not quantised


def export_codec(folder: Path) -> Path:
    """Both halves as files that need no code, for any number of channels, and their card."""
    folder.mkdir(parents=True, exist_ok=True)
    codec, any_number = ThirdParty(), ({0: torch.export.Dim("n")},)
    for half, example in (("encoder", torch.zeros(2, 2, 32, 32)), ("decoder", torch.zeros(2, 256))):
        model = torch.export.export(getattr(codec, half), (example,), dynamic_shapes=any_number)
        torch.export.save(model, folder / f"{half}.pt2")
    (folder / "codec.yaml").write_text(CARD)
    return folder / "codec.yaml"


def main(data: Path, folder: Path, n_base: int = 200) -> None:
    card = export_codec(folder)
    result = csi_audit.audit(
        csi_audit.RunConfig(
            data=str(data),
            compressor=(f"{__file__}:ThirdParty", str(card)),
            out=str(folder / "audit"),
            n_base=n_base,
        )
    )
    for row in result.compressors:
        print(f"{row.name}: mean NMSE {row.mean_db('real'):.3f} dB on real channels")
    print(f"Report: {folder / 'audit' / 'report.html'}")


if __name__ == "__main__":
    main(sample_path(), Path("runs/third-party"))
