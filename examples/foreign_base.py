"""Audit with a diffusion model of another library as base: here a U-Net in the manner of diffusers.

    python examples/foreign_base.py          about a minute

`base` is all that csi-audit needs: what the network predicts, its schedule, its scaling, and users
of its law. On the command line the same audit reads

    csi-audit run --data channels.mat --compressor klt-16 --base examples/foreign_base.py:base
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import csi_audit
from channels import Convention, audit_space, load_channels
from channels.sample import sample_path
from csi_audit.base import Base
from csi_audit.foreign_denoisers import ForeignDenoiser, base_of_denoiser
from csi_audit.schedules import StepTable

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHA_BAR = torch.cumprod(1 - BETAS, 0)  # what diffusers calls scheduler.alphas_cumprod


@dataclass
class UNetOutput:
    sample: Tensor


class UNet(nn.Module):
    """Stands in for a trained UNet2DModel: noise from (sample, timestep), as an object.

    So that the example runs in a minute, it knows no more than the variance of each coefficient:
    a Gaussian law, of which the report says that real channels are otherwise.
    """

    def __init__(self, variance: Tensor) -> None:
        super().__init__()
        self.variance = nn.Parameter(variance)

    def forward(self, sample: Tensor, timestep: Tensor) -> UNetOutput:
        abar = ALPHA_BAR.to(sample)[timestep].view(-1, 1, 1, 1)
        return UNetOutput((1 - abar).sqrt() / (abar * self.variance + 1 - abar) * sample)


def trained() -> UNet:
    """Yours: UNet2DModel.from_pretrained(...). Its channels have half the amplitude of ours."""
    x = 0.5 * audit_space(load_channels(sample_path()))
    return UNet(x.square().mean(0).clamp_min(1e-6))


def base() -> Base:
    denoiser = ForeignDenoiser(
        trained(),
        predicts="noise",
        schedule=StepTable.of_alpha_bar(ALPHA_BAR),
        convention=Convention(scaling="global", scale=0.5),
        told="step",
    )
    return base_of_denoiser(denoiser, load_channels(sample_path()))


def main(data: str, out: str, n_base: int = 200) -> None:
    result = csi_audit.audit(
        csi_audit.RunConfig(
            data=data, compressor=("klt-16",), base=f"{__file__}:base", out=out, n_base=n_base
        )
    )
    print(f"{result.base.name}: {result.base.verdict}")
    print(f"Report: {out}/report.html")


if __name__ == "__main__":
    main(str(sample_path()), "runs/foreign-base")
