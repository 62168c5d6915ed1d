"""Channels on which a compressor does badly, as weighted samples of q(x) = l(x) p(x) / Z.

    python examples/sample_failures.py

l is the fourth power of the squared error of the bundled KLT, p the bundled base model. A pilot of
base samples calibrates the twist; its share of variance explained is printed first, since a twist
that explains little where the mass is decided cannot be mended by more steps. Then twisted SMC
draws islands of particles, and reweighted base samples stand beside them. On several devices the
same script runs as

    torchrun --nproc-per-node 2 examples/sample_failures.py

Two to four minutes on one CPU core.
"""

import math
import os

from lightning.fabric import Fabric

import csi_audit
from channels import load_channels
from channels.channel_domain import ChannelDomain
from channels.randomness import seeded_generator
from channels.sample import sample_path
from compressors import in_audit_space, load_compressor
from csi_audit.calibration import fit_calibrated_twist
from csi_audit.drawing import FabricRanks, draw_in_blocks
from csi_audit.estimate import expectation
from csi_audit.islands import IslandSamples, normalising_constant
from csi_audit.losses import NmseLoss, SquaredErrorLoss, in_blocks
from csi_audit.sampling import BaseSampler, reweighted
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.weights import LossWeight, NormalisedWeight, log_l_in_blocks
from reports.estimates import Estimate, mean_estimate

STEPS, ISLAND, ISLANDS, N_BASE = 30, 64, 12, 1000


def show(quantity: str, found: Estimate) -> None:
    low, high = found.interval or (math.nan, math.nan)
    print(f"{quantity} = {found.value:.4f} [{low:.4f}, {high:.4f}], {found.status}: {found.method}")


if __name__ == "__main__":
    fabric = Fabric(devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # set by torchrun
    fabric.launch()
    device = fabric.device
    base = csi_audit.load_base()
    compressor = in_audit_space(load_compressor("klt-16").compressor)
    domain = ChannelDomain.of(load_channels(sample_path()))
    guiding = LossWeight(SquaredErrorLoss(compressor), power=4.0)  # defined on denoised means
    counting = NormalisedWeight(LossWeight(NmseLoss(compressor), power=4.0), domain.onto_law)

    plain = BaseSampler(base, steps=STEPS, chain="sde_2m", device=device)
    pilot = plain(N_BASE, generator=seeded_generator(0, "pilot"))
    twist = fit_calibrated_twist(
        plain.denoiser, guiding, pilot.x, plain.sigmas,
        generator=seeded_generator(0, "twist"), target=counting,
    )  # fmt: skip
    sampler = TwistedSmcSampler(base, counting, twist, steps=STEPS, island=ISLAND, device=device)
    samples = draw_in_blocks(
        sampler, ISLAND * ISLANDS, name="failures", block=ISLAND, seed=0, ranks=FabricRanks(fabric)
    )
    if fabric.is_global_zero and isinstance(samples, IslandSamples):
        print(twist.table())
        plain_mean = mean_estimate(log_l_in_blocks(counting, pilot.x).exp().numpy())
        samples = samples.compared_with(plain_mean)  # or no status would be "ok"
        show("E_p[l]", normalising_constant(samples))
        for drawn in (reweighted(pilot, counting), samples):
            loss = in_blocks(NmseLoss(compressor), domain.onto_law(drawn.x))
            show("E_q[NMSE]", expectation(drawn, loss.numpy()))
