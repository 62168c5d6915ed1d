"""Networks a denoiser can be built on: maps in, maps out, conditioned on log sigma.

Each takes features (N, n_in, n_tx, n_delay) and the log of the noise level (N,) and returns maps
(N, n_out, n_tx, n_delay) that are zero before training, so that a preconditioned denoiser starts
at its linear part. Preconditioning itself lives in csi_audit.diffusion.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels.support import CsiAuditError, did_you_mean

_WIDTH_TIME = 64  # numbers that describe the noise level inside a network


class NoiseLevel(nn.Module):
    """Fourier features of log sigma and a small MLP: (N,) -> (N, 64)."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", 0.25 * torch.arange(1, 17), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(32, _WIDTH_TIME), nn.SiLU(), nn.Linear(_WIDTH_TIME, _WIDTH_TIME), nn.SiLU()
        )

    def forward(self, log_sigma: Tensor) -> Tensor:
        angle = log_sigma[:, None] * self.frequencies
        level: Tensor = self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))
        return level


class Modulation(nn.Module):
    """Shift, scale and gate of one sub-layer from the noise level; gate 1/2 at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(_WIDTH_TIME, 3 * width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            self.linear.bias[2 * width :] = 0.5

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, scale, gate = self.linear(level)[:, None].chunk(3, dim=-1)
        return shift, 1 + scale, gate


class GatedMlp(nn.Module):
    """down(silu(a) * b), (a, b) = up(y): the feed-forward layer of all networks here."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, y: Tensor) -> Tensor:
        a, b = self.up(y).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(a) * b)
        return out


class MixerBlock(nn.Module):
    """One residual gated MLP on tokens (N, n_tokens, width), with a bias of its own per token."""

    def __init__(self, n_tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.modulation = Modulation(width)
        self.position = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.mlp = GatedMlp(width, hidden)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(level)
        y = F.layer_norm(tokens, tokens.shape[-1:]) * scale + shift + self.position
        return tokens + gate * self.mlp(y)


class AxialMixer(nn.Module):
    """Residual MLPs that see the map by turns as delay taps and as beams.

    Odd blocks take each delay tap as a token of all its beams, even blocks each beam as a token of
    all its taps. Both axes are seen densely with weights shared along the other one, at the cost of
    matrix products alone.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_tx: int,
        n_delay: int,
        *,
        channels: int = 8,
        hidden: int = 256,
        depth: int = 8,
    ) -> None:
        super().__init__()
        self.level = NoiseLevel()
        self.stem = nn.Linear(n_in, channels)
        sizes = [(n_delay, n_tx * channels), (n_tx, n_delay * channels)]
        self.blocks = nn.ModuleList(MixerBlock(*sizes[i % 2], hidden) for i in range(depth))
        self.head = _zero(nn.Linear(channels, n_out))

    def forward(self, maps: Tensor, log_sigma: Tensor) -> Tensor:
        level = self.level(log_sigma)
        h = self.stem(maps.permute(0, 3, 2, 1))  # (N, n_delay, n_tx, channels)
        for block in self.blocks:
            shape = h.shape
            h = block(h.flatten(2), level).view(shape).transpose(1, 2)
        h = h if len(self.blocks) % 2 == 0 else h.transpose(1, 2)
        out: Tensor = self.head(h).permute(0, 3, 2, 1)
        return out


class AttentionBlock(nn.Module):
    """Self-attention over tokens, then a gated MLP."""

    def __init__(self, n_tokens: int, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.modulation = Modulation(width)
        self.position = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.mixer = MixerBlock(n_tokens, width, hidden)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(level)
        y = F.layer_norm(tokens, tokens.shape[-1:]) * scale + shift + self.position
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        mixed: Tensor = self.mixer(tokens + gate * self.merge(attended), level)
        return mixed


class TapTransformer(nn.Module):
    """Transformer on delay taps: a token holds all beams of its tap."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_tx: int,
        n_delay: int,
        *,
        width: int = 192,
        hidden: int = 384,
        depth: int = 5,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.level = NoiseLevel()
        self.shape = (n_out, n_tx)
        self.stem = nn.Linear(n_in * n_tx, width)
        self.blocks = nn.ModuleList(
            AttentionBlock(n_delay, width, hidden, heads) for _ in range(depth)
        )
        self.head = _zero(nn.Linear(width, n_out * n_tx))

    def forward(self, maps: Tensor, log_sigma: Tensor) -> Tensor:
        level = self.level(log_sigma)
        tokens = self.stem(maps.permute(0, 3, 1, 2).flatten(2))  # (N, n_delay, width)
        for block in self.blocks:
            tokens = block(tokens, level)
        out: Tensor = self.head(F.layer_norm(tokens, tokens.shape[-1:]))
        return out.unflatten(-1, self.shape).permute(0, 2, 3, 1)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with group norm, modulated by the noise level, added to the input."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(4, n_in), nn.GroupNorm(4, n_out)
        self.conv_in = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.conv_out = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.modulation = nn.Linear(_WIDTH_TIME, 2 * n_out)
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        y = self.conv_in(F.silu(self.norm_in(h)))
        scale, shift = self.modulation(level)[..., None, None].chunk(2, dim=1)
        y = self.conv_out(F.silu(self.norm_out(y) * (1 + scale) + shift))
        out: Tensor = self.skip(h) + y
        return out


class UNet(nn.Module):
    """Convolutions on the beam-delay image at three resolutions, with skips between them."""

    def __init__(self, n_in: int, n_out: int, n_tx: int, n_delay: int, *, width: int = 32) -> None:
        super().__init__()
        if n_tx % 4 or n_delay % 4:
            raise CsiAuditError(
                f"a UNet needs n_tx and n_delay that 4 divides; got {n_tx} x {n_delay}. "
                "Choose the axial_mixer."
            )
        self.level = NoiseLevel()
        self.stem = nn.Conv2d(n_in, width, 3, padding=1)
        sizes = (width, 2 * width, 2 * width)
        pairs = list(zip((width, *sizes[:-1]), sizes, strict=True))
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in pairs)
        self.middle = ConvBlock(sizes[-1], sizes[-1])
        self.up = nn.ModuleList(ConvBlock(2 * b, a) for a, b in reversed(pairs))
        self.head = _zero(nn.Conv2d(width, n_out, 3, padding=1))

    def forward(self, maps: Tensor, log_sigma: Tensor) -> Tensor:
        level = self.level(log_sigma)
        h, skips = self.stem(maps), []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i else h, level)
            skips.append(h)
        h = self.middle(h, level)
        for i, block in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0) if i else h
            h = block(torch.cat([h, skips.pop()], dim=1), level)
        out: Tensor = self.head(h)
        return out


def _zero(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "axial_mixer": AxialMixer,
    "tap_transformer": TapTransformer,
    "unet": UNet,
}


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Name and sizes of a network: all that is needed to build it again beside its weights."""

    name: str = "axial_mixer"
    options: tuple[tuple[str, int], ...] = ()

    def build(self, n_in: int, n_out: int, n_tx: int, n_delay: int) -> nn.Module:
        """The network with fresh weights.

        Raises:
            CsiAuditError: unknown name or option.
        """
        if self.name not in _NETWORKS:
            hint = did_you_mean(self.name, _NETWORKS)
            raise CsiAuditError(f"network must be a known name; got {self.name!r}.{hint}")
        try:
            return _NETWORKS[self.name](n_in, n_out, n_tx, n_delay, **dict(self.options))
        except TypeError as error:
            raise CsiAuditError(f"network {self.name!r}: {error}. Remove that option.") from error
