"""The picture of how a target law takes shape: conditional means of the spiral, level by level."""

from pathlib import Path

import torch
from torch import Tensor

from channels.randomness import seeded_generator
from channels.support import atomic_write
from csi_audit.diffusion import Denoiser
from csi_audit.toy_laws import ExactTwist, MixtureLaw, toy_law
from csi_audit.toy_weights import l1
from csi_audit.twists import GuidedDenoiser, TweedieTwist

SIGMAS = (2.0, 0.8, 0.4, 0.2, 0.1, 0.03)
POINTS = 3000


def conditional_means(law: MixtureLaw, *, seed: int, n: int = POINTS) -> dict[str, list[Tensor]]:
    """E[x0 | x_sigma] at each of `SIGMAS` under p and under q, (n, 2) each; x_sigma from its law.

    The third entry puts l at the denoised mean, as the paper does, in place of E[l | x_sigma].
    """
    weight = l1()
    exact = GuidedDenoiser(law.denoiser, ExactTwist(law, weight))
    plug_in = GuidedDenoiser(law.denoiser, TweedieTwist(weight))
    generator = seeded_generator(seed, "evolution")
    p = law.draw(n, generator=generator)
    q = law.draw_target(weight, n, generator=generator)
    eps = torch.randn(n, 2, generator=generator)
    cases: list[tuple[str, Tensor, Denoiser]] = [
        ("p", p, law.denoiser),
        ("q", q, exact),
        ("q, l at the mean", q, plug_in),
    ]
    return {name: [d(x0 + s * eps, s) for s in SIGMAS] for name, x0, d in cases}


def save_evolution(path: Path, *, seed: int) -> None:
    """Write the figure: a row a law, a column a noise level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    means = conditional_means(toy_law("spiral"), seed=seed)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(means), len(SIGMAS), sharex=True, sharey=True)
    for line, (name, columns) in zip(axes, means.items(), strict=True):
        for axis, sigma, x0_hat in zip(line, SIGMAS, columns, strict=True):
            axis.plot(*x0_hat.T.numpy(), ".", markersize=1, alpha=0.5, rasterized=True)
            axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[])
            if name == "p":
                axis.set_title(f"σ = {sigma:g}")
        line[0].set_ylabel(name)
    figure.suptitle("Spiral, l(x) = |x|²: E[x₀ | x_σ] under p and q, x_σ drawn from its law")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
