"""`Convention`: how a compressor wants its channels, and the way back to the audit space.

Published compressors differ in domain, delay crop, scaling and layout far more than in networks.
All of it is here, invertible and differentiable, so that nothing else ever rescales a channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor

from channels.domains import (
    Panel,
    crop_delay,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)
from channels.support import CsiAuditError, did_you_mean

__all__ = ["Convention"]

Domain = Literal["angular-delay", "spatial-frequency"]
Scaling = Literal["none", "global", "sample_peak", "sample_modulus", "sample_norm", "zscore"]
Layout = Literal["planes", "planes_transposed", "channels_last", "flat", "complex"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """A compressor's own form of a channel.

        y = layout(scale (w - mean) / s + offset),   w = crop(x) or spatial-frequency(x)

        none            y = w
        global          s = 1, `scale` given: 0.5/max|w| with offset 0.5 fills [0, 1]
        sample_peak     s_n = max(|re w_n|, |im w_n|)   scale 0.5, offset 0.5: the usual [0, 1]
        sample_modulus  s_n = max|w_n|, the largest complex modulus
        sample_norm     s_n = ||w_n||
        zscore          s = std, and `mean`

    The per-sample s_n is side information that the decoder is given. `unscale` undoes the scaling,
    `from_own` the layout and the domain as well.

    Attributes:
        domain: Where the compressor lives.
        crop_delay: Delay taps kept, None for all; angular-delay only.
        scaling: See above.
        scale: Factor; None counts as 1 (global must give one).
        offset: Added last.
        mean, std: zscore only: one value, or one per real channel (2 n_rx).
        layout: "planes" (N, 2 n_rx, n_tx, n), "planes_transposed" (N, 2 n_rx, n, n_tx),
            "channels_last" (N, n_tx, n, 2 n_rx), "flat" (N, 2 n_rx n_tx n),
            "complex" (N, n_rx, n_tx, n).
        event_shape: (2 n_rx, n_tx, n_delay) of the audit space.
        panel: (n_pol, n_rows, n_columns) of the transmit axis, for the change of domain; None is
            one row.
        floor: Smallest s_n, as a share of the root mean power 1 of real channels. True channels lie
            far above it; denoised means at high noise do not, and 0/0 has no gradient.
    """

    domain: Domain = "angular-delay"
    crop_delay: int | None = None
    scaling: Scaling = "none"
    scale: float | None = None
    offset: float = 0.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: Layout = "planes"
    event_shape: tuple[int, int, int] = (2, 32, 32)
    panel: Panel | None = None
    floor: float = 0.01

    def __post_init__(self) -> None:
        for name in ("event_shape", "panel", "mean", "std"):  # lists, from JSON
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        hints = get_type_hints(type(self))
        for name in ("domain", "scaling", "layout"):
            value, known = getattr(self, name), get_args(hints[name])
            if value not in known:
                raise CsiAuditError(
                    f"{name} must be a known one; got {value!r}.{did_you_mean(str(value), known)}"
                )
        self._check_shape()
        self._check_scaling()

    def _check_shape(self) -> None:
        shape = self.event_shape
        if len(shape) != 3 or min(shape) < 1 or shape[0] % 2:
            raise CsiAuditError(f"event_shape must be (2 n_rx, n_tx, n_delay); got {shape}.")
        panel = self.panel
        if panel is not None and (
            len(panel) != 3 or min(panel) < 1 or math.prod(panel) != shape[1]
        ):
            raise CsiAuditError(
                "panel must be (n_pol, n_rows, n_columns) with a product of n_tx = "
                f"{shape[1]}; got {panel}."
            )
        if self.crop_delay is None:
            return
        if self.domain != "angular-delay":
            raise CsiAuditError(
                "crop_delay must be None in the spatial-frequency domain, which has no delay axis; "
                f"got {self.crop_delay}."
            )
        if not 1 <= self.crop_delay <= shape[2]:
            raise CsiAuditError(f"crop_delay must lie in 1..{shape[2]}; got {self.crop_delay}.")

    def _check_scaling(self) -> None:
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise CsiAuditError(f"scale must be positive; got {self.scale}.")
        if self.scaling == "global" and self.scale is None:
            raise CsiAuditError(
                "scale must be given with scaling 'global'. See Convention.unit_interval."
            )
        if self.scaling == "none" and (self.scale is not None or self.offset != 0):
            raise CsiAuditError(
                "scale and offset must be left out with scaling 'none'; got "
                f"{self.scale} and {self.offset}. Did you mean scaling 'global'?"
            )
        if not 0 < self.floor <= 0.5:
            raise CsiAuditError(f"floor must lie in (0, 0.5]; got {self.floor}.")
        if (self.scaling == "zscore") != (self.mean is not None and self.std is not None) or (
            self.scaling != "zscore" and (self.mean is not None or self.std is not None)
        ):
            raise CsiAuditError(
                "mean and std must be given with scaling 'zscore', and only with it; got "
                f"{self.mean} and {self.std} with {self.scaling!r}."
            )
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) not in (1, self.event_shape[0]):
                raise CsiAuditError(
                    f"{name} must hold 1 or {self.event_shape[0]} values; got {len(value)}."
                )
        if self.std is not None and min(self.std) <= 0:
            raise CsiAuditError(f"std must be positive; got {self.std}.")

    @classmethod
    def unit_interval(
        cls,
        x: Tensor,
        *,
        domain: Domain = "angular-delay",
        crop_delay: int | None = None,
        layout: Layout = "planes",
        panel: Panel | None = None,
    ) -> Convention:
        """Global convention that puts the training set into [0, 1].

            y = w / (2 max|w|) + 0.5,   the maximum over all of x

        Args:
            x: Audit-space channels (N, 2 n_rx, n_tx, n_delay); later ones may leave [0, 1].
            domain, crop_delay, layout, panel: As in the class.
        Raises:
            CsiAuditError: x is all zero or not finite.
        """
        shape = (x.shape[1], x.shape[2], x.shape[3])
        plain = cls(domain=domain, crop_delay=crop_delay, event_shape=shape, panel=panel)
        peak = float(plain.to_own(x)[0].abs().max())
        if not 0 < peak < float("inf"):
            raise CsiAuditError(f"x must be finite and not all zero; its peak is {peak}.")
        return cls(
            domain=domain,
            crop_delay=crop_delay,
            layout=layout,
            event_shape=shape,
            panel=panel,
            scaling="global",
            scale=0.5 / peak,
            offset=0.5,
        )

    @property
    def n_side(self) -> int:
        """Real numbers of side information per user that the decoder is given."""
        return int(self.scaling in ("sample_peak", "sample_modulus", "sample_norm"))

    def describe(self) -> str:
        """One line on a compressor's form."""
        side = ", one real number of side information a user" if self.n_side else ""
        return f"{self._place()}, {self._formula()}, layout {self.layout}{side}"

    def describe_stored(self) -> str:
        """One line on a file's form, whose layout its reader has undone."""
        n_rx, (n_tx, n) = self.event_shape[0] // 2, self.event_shape[1:]
        norm = math.sqrt(n_rx * n_tx * (self.crop_delay or n))
        power = self.scaling == "sample_norm" and not self.offset
        unit = power and abs((self.scale or 1.0) / norm - 1) < 5e-3  # 0.04 dB of power
        return f"{self._place()}, {'unit power per user' if unit else self._formula()}"

    def _place(self) -> str:
        """Domain, crop and panel."""
        n = self.event_shape[2]
        taps = "" if self.domain == "spatial-frequency" else f", {self.crop_delay or n} of {n} taps"
        panel = "" if self.panel is None else f", panel {' x '.join(map(str, self.panel))}"
        return f"{self.domain}{taps}{panel}"

    def _formula(self) -> str:
        if self.scaling == "none":
            return "unscaled"
        factor = "" if self.scale is None else f"{self.scale:.4g} "
        body = {
            "global": "x",
            "sample_peak": "x / max|x| per user",
            "sample_modulus": "x / max modulus of x per user",
            "sample_norm": "x / ||x|| per user",
            "zscore": "(x - mean) / std",
        }[self.scaling]
        formula = f"y = {factor}{body}" + (f" + {self.offset:g}" if self.offset else "")
        if self.mean is None or self.std is None:
            return formula
        return f"{formula}, mean {_first(self.mean)}, std {_first(self.std)}"

    def energy_lost(self, x: Tensor) -> Tensor:
        """Share of each user's energy that the crop throws away (`channels.crop_delay`).

        Args:
            x: Real (N, 2 n_rx, n_tx, n_delay).
        Returns:
            Share [1], float64 (N,); 0 without a crop.
        Raises:
            CsiAuditError: x is not (N, *event_shape), or a user is not finite or has no energy.
        """
        self._check_audit_space(x)
        return crop_delay(x, self.crop_delay or self.event_shape[2])[1]

    def to_own(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Audit-space channels in the compressor's form.

        Args:
            x: Real (N, 2 n_rx, n_tx, n_delay).
        Returns:
            y in `layout`, and side: s_n (N,) for the per-sample scalings, else None.
        Raises:
            CsiAuditError: x is not (N, *event_shape).
        """
        self._check_audit_space(x)
        w = self._to_domain(x)
        side = self._side(w)
        mean, divisor = self._constants(w, side)
        return self._lay_out((self.scale or 1.0) * (w - mean) / divisor + self.offset), side

    def from_own(self, y_hat: Tensor, side: Tensor | None = None) -> Tensor:
        """Reconstructions back in the audit space: inverse of `to_own`; cropped taps become 0.

        Args:
            y_hat: In `layout`.
            side: What `to_own` returned.
        Returns:
            Real (N, 2 n_rx, n_tx, n_delay).
        Raises:
            CsiAuditError: wrong shape, or side missing.
        """
        planes = self._pick_up(y_hat)
        if self.n_side and (side is None or side.shape != planes.shape[:1]):
            raise CsiAuditError(
                f"side must be ({planes.shape[0]},), the scales that to_own returned; got "
                f"{None if side is None else tuple(side.shape)}."
            )
        w = self.unscale(planes, side)
        if self.domain == "spatial-frequency":
            return stack_real(to_angular_delay(to_complex(w), self.panel))
        return torch.nn.functional.pad(w, (0, self.event_shape[2] - w.shape[-1]))

    def unscale(self, planes: Tensor, side: Tensor | None = None) -> Tensor:
        """The scaling undone, nothing else: domain, crop and axes stay as they are.

            w = (planes - offset) s / scale + mean

        Args:
            planes: Real (N, 2 n_rx, n_tx, n), or the same as complex (N, n_rx, n_tx, n).
            side: s_n (N,); None if it is lost, then s_n = 1 and every user keeps a scale of its
                own, which unit power hides.
        Returns:
            w, in the form of planes.
        Raises:
            CsiAuditError: wrong shape of planes or side.
        """
        pairs, n_tx, n_delay = self.event_shape
        shape = (pairs, n_tx, self.crop_delay or n_delay)
        real = stack_real(planes) if planes.is_complex() and planes.ndim == 4 else planes
        if tuple(real.shape[1:]) != shape or real.is_complex():
            raise CsiAuditError(
                f"planes must be real (N, {', '.join(map(str, shape))}), or its complex form; got "
                f"{planes.dtype} {tuple(planes.shape)}."
            )
        if self.n_side and side is not None and side.shape != real.shape[:1]:
            raise CsiAuditError(
                f"side must be ({real.shape[0]},), one scale a user; got {tuple(side.shape)}."
            )
        mean, divisor = self._constants(real, side)
        w = (real - self.offset) / (self.scale or 1.0) * divisor + mean
        return to_complex(w) if planes.is_complex() else w

    def _check_audit_space(self, x: Tensor) -> None:
        if x.is_complex() or tuple(x.shape[1:]) != self.event_shape:
            raise CsiAuditError(
                f"x must be real (N, {', '.join(map(str, self.event_shape))}) angular-delay; got "
                f"{x.dtype} {tuple(x.shape)}. Is this the spatial-frequency domain, or another "
                "array? See channels.audit_space."
            )

    def _to_domain(self, x: Tensor) -> Tensor:
        if self.domain == "spatial-frequency":
            return stack_real(to_spatial_frequency(to_complex(x), self.panel))
        return x[..., : self.crop_delay]

    def _side(self, w: Tensor) -> Tensor | None:
        flat = w.flatten(1)
        if self.scaling == "sample_peak":
            return flat.abs().amax(1).clamp_min(self.floor)
        # Square roots of clamped squares, so that the gradient at w = 0 is 0 and not NaN.
        if self.scaling == "sample_modulus":
            modulus = w[:, 0::2].square() + w[:, 1::2].square()
            return modulus.flatten(1).amax(1).clamp_min(self.floor**2).sqrt()
        if self.scaling == "sample_norm":
            n_complex = flat.shape[1] / 2
            return flat.square().sum(1).clamp_min(self.floor**2 * n_complex).sqrt()
        return None

    def _constants(self, like: Tensor, side: Tensor | None) -> tuple[Tensor, Tensor]:
        """(mean, divisor), broadcast to (N, 2 n_rx, n_tx, n)."""
        mean = like.new_tensor(self.mean or (0.0,)).view(1, -1, 1, 1)
        if self.n_side and side is not None:
            return mean, side.view(-1, 1, 1, 1)
        return mean, like.new_tensor(self.std or (1.0,)).view(1, -1, 1, 1)

    def _lay_out(self, planes: Tensor) -> Tensor:
        if self.layout == "planes_transposed":
            return planes.transpose(2, 3)
        if self.layout == "channels_last":
            return planes.permute(0, 2, 3, 1)
        if self.layout == "flat":
            return planes.flatten(1)
        return to_complex(planes) if self.layout == "complex" else planes

    def _pick_up(self, y: Tensor) -> Tensor:
        """Planes (N, 2 n_rx, n_tx, n) from y in `layout`."""
        pairs, n_tx, n_delay = self.event_shape
        n = self.crop_delay or n_delay
        shape = {
            "planes": (pairs, n_tx, n),
            "planes_transposed": (pairs, n, n_tx),
            "channels_last": (n_tx, n, pairs),
            "flat": (pairs * n_tx * n,),
            "complex": (pairs // 2, n_tx, n),
        }[self.layout]
        if tuple(y.shape[1:]) != shape or y.is_complex() != (self.layout == "complex"):
            raise CsiAuditError(
                f"y_hat must be (N, {', '.join(map(str, shape))}), layout {self.layout!r}; "
                f"got {y.dtype} {tuple(y.shape)}."
            )
        if self.layout == "planes_transposed":
            return y.transpose(2, 3)
        if self.layout == "channels_last":
            return y.permute(0, 3, 1, 2)
        if self.layout == "flat":
            return y.reshape(-1, pairs, n_tx, n)
        return stack_real(y) if self.layout == "complex" else y


def _first(values: tuple[float, ...]) -> str:
    """`0.125`, or `0.125, ... (4 values)`."""
    more = f", ... ({len(values)} values)" if len(set(values)) > 1 else ""
    return f"{values[0]:.4g}{more}"
