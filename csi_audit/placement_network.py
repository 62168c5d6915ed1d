"""Denoisers of placements: a transformer over users around a closed form.

Users are tokens without numbers, so D commutes with every reordering of them and the law it stands
for is exchangeable. Saving and loading live in csi_audit.placement_base, training in
csi_audit.placement_training.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels.support import CsiAuditError, did_you_mean
from csi_audit.diffusion import per_sample
from csi_audit.networks import GatedMlp, Modulation, NoiseLevel

Reference = Literal["box", "gaussian"]
_OCTAVES = 5  # of waves over the square, the shortest 1/8 of a half side long
_N_FEATURES = 8 + 4 * _OCTAVES


def box_mean(x: Tensor, sigma: Tensor | float) -> Tensor:
    """E[x0 | x] of independent coordinates uniform on [-1, 1]: the mean of a truncated Gaussian.

        D = x + sigma [phi(a) - phi(b)] / [Phi(b) - Phi(a)],
        a = (-1 - x) / sigma,   b = (1 - x) / sigma

    For x >= 0, where both ends are in the lower tail or near 0, as
    -phi(b) / Phi(b) (1 - exp(-2x / sigma^2)) / (1 - Phi(a) / Phi(b)), in float64.

    Args:
        x: (N, ...), anywhere.
        sigma: A number or (N,), above 0.
    Source: Johnson, Kotz, Balakrishnan, 1994, "Continuous Univariate Distributions" 1, 13.10.1.
    """
    wide = x.double()
    level = per_sample(sigma, wide)
    size = wide.abs()
    a, b = (-1 - size) / level, (1 - size) / level
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    mills = _inverse_mills(b, log_b)
    share = torch.expm1(-2 * size / level.square()) / torch.expm1(log_a - log_b)
    mean = (size - level * mills * share).clamp(-1, 1)  # clamp: rounding alone
    return torch.where(wide < 0, -mean, mean).to(x)


def _inverse_mills(b: Tensor, log_b: Tensor) -> Tensor:
    """phi(b) / Phi(b), with log_b = log Phi(b); by its series where the logarithms cancel."""
    near, y = b.clamp_min(-30.0), b.clamp_max(-30.0).square().reciprocal()
    log_phi = -0.5 * near.square() - 0.5 * math.log(2 * math.pi)
    series = -b.clamp_max(-30.0) * (1 + y - 2 * y.square() + 10 * y**3)
    return torch.where(b < -30.0, series, (log_phi - torch.where(b < -30.0, 0.0, log_b)).exp())


@dataclass(frozen=True, kw_only=True)
class UserNetworkSpec:
    """Sizes of a `UserTransformer`, and the closed form that it is trained around.

    Attributes:
        width: Numbers a user is described by inside.
        hidden: Width of the feed-forward layers.
        depth: Blocks.
        heads: Of the attention; divides the width.
        around: "box", the exact denoiser of the uniform law on the square, or "gaussian", the
            Wiener filter, which knows nothing of the edges.
    """

    width: int = 32
    hidden: int = 64
    depth: int = 2
    heads: int = 2
    around: Reference = "box"

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "depth", "heads"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.width % self.heads:
            raise CsiAuditError(f"heads must divide the width of {self.width}; got {self.heads}.")
        if self.around not in get_args(Reference):
            hint = did_you_mean(str(self.around), get_args(Reference))
            raise CsiAuditError(f"around must be a known closed form; got {self.around!r}.{hint}")


class UserBlock(nn.Module):
    """Self-attention over users, then a gated MLP for each; no user has a number."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.of_attention, self.of_mlp = Modulation(width), Modulation(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = GatedMlp(width, hidden)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        shift, scale, gate = self.of_attention(level)
        y = F.layer_norm(tokens, tokens.shape[-1:]) * scale + shift
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + gate * self.merge(attended)
        shift, scale, gate = self.of_mlp(level)
        y = F.layer_norm(tokens, tokens.shape[-1:]) * scale + shift
        mixed: Tensor = tokens + gate * self.mlp(y)
        return mixed


class UserTransformer(nn.Module):
    """Features (N, n_users, n_in) and log sigma (N,) to (N, n_users, 2), zero before training.

    Any reordering of the users reorders what comes out.
    """

    def __init__(self, spec: UserNetworkSpec) -> None:
        super().__init__()
        self.level = NoiseLevel()
        self.stem = nn.Linear(_N_FEATURES, spec.width)
        self.blocks = nn.ModuleList(
            UserBlock(spec.width, spec.hidden, spec.heads) for _ in range(spec.depth)
        )
        self.head = nn.Linear(spec.width, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, log_sigma: Tensor) -> Tensor:
        level = self.level(log_sigma)
        tokens = self.stem(features)
        for block in self.blocks:
            tokens = block(tokens, level)
        out: Tensor = self.head(F.layer_norm(tokens, tokens.shape[-1:]))
        return out


class PlacementDenoiser(nn.Module):
    """A network over users around a closed form.

        D = m(x, sigma) + c_out f,   c_out = sigma sqrt(v / (v + sigma^2))
        m = box_mean, or v / (v + sigma^2) x

    A law on a square has sharp edges, and at noise sigma all that says so is a rim of width sigma;
    a Wiener filter leaves that rim to the network at every level, down to sigma_min. The mean of
    the box has it exactly, so f = 0 is right for the uniform law, and the network learns how a law
    differs from it.

    Args:
        network: Maps features (N, n_users, F) and log sigma (N,) to (N, n_users, 2).
        variance: v of each coordinate, (n_users, 2), positive, the same for every user.
        around: Which m.
    """

    variance: Tensor

    def __init__(self, network: nn.Module, variance: Tensor, around: Reference = "box") -> None:
        super().__init__()
        self.network, self.around = network, around
        self.register_buffer("variance", variance.clone())
        self.event_shape = tuple(int(n) for n in variance.shape)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level, v = per_sample(sigma, x), self.variance.to(x)
        total = v + level**2
        box = box_mean(x, level.flatten())
        f = self.network(_features(x, box, level, total), level.flatten().log().float())
        mean = box if self.around == "box" else v / total * x
        return mean + level * (v / total).sqrt() * f.to(x)


def _features(x: Tensor, box: Tensor, level: Tensor, total: Tensor) -> Tensor:
    """What the network sees of each user, float32 (N, n_users, 28).

    Where it is at one scale for all noise, where the box says that it is, how far that moved it,
    where the nearest edges are in units of noise, and waves of that place for what is fine.
    """
    moved = (x - box) / level
    edge = (1 - box.abs()) / level
    octaves = math.pi * 2 ** torch.arange(_OCTAVES, device=x.device, dtype=x.dtype)
    angle = (box[..., None] * octaves).flatten(-2)  # (N, n_users, 2 * octaves)
    near = moved / (1 + moved.abs())
    parts = [x / total.sqrt(), box, near, box / (1 + edge), angle.sin(), angle.cos()]
    return torch.cat(parts, dim=-1).float()
