"""Other people's diffusion models as denoisers: any network that predicts noise, v, x0 or score.

A network brings its own parametrisation, schedule and scaling of the data; `ForeignDenoiser` turns
the three into D(x, sigma), `base_of_denoiser` adds what sampling needs. Nothing here trains.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from channels.channel_set import ChannelSet
from channels.convention import Convention
from channels.shuffled import training_users
from channels.support import CsiAuditError, did_you_mean
from channels.symmetry import flip_array
from csi_audit.base import Base, coefficient_variance, ten_top_deviations
from csi_audit.diffusion import Denoiser, per_sample
from csi_audit.schedules import Schedule, StepTable

Prediction = Literal["noise", "v", "x0", "score"]
Told = Literal["time", "step", "sigma", "log_sigma"]
_SLACK = 1.001  # rounding of noise levels at the ends of a schedule
_LOWEST = 0.01  # where sampling of our own bases ends


def _x0_from_noise(y: Tensor, eps: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
    return y - s * eps


def _x0_from_v(y: Tensor, v: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
    return (y - s * v / alpha) / (1 + s**2)


def _x0_itself(y: Tensor, x0: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
    return x0


def _x0_from_score(y: Tensor, score: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
    return y + alpha * s**2 * score


_FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "noise": _x0_from_noise,
    "v": _x0_from_v,
    "x0": _x0_itself,
    "score": _x0_from_score,
}


class ForeignDenoiser(nn.Module):
    """D(x, sigma) of a network with its own parametrisation, schedule and scaling.

    In the network's own scale y = c x + b of `convention` the noise is s = c sigma, at time t with
    schedule.sigma(t) = s. It is given y_t = alpha (y + s eps), and what it predicts leads to y0:

        noise   eps                      y0 = y - s eps
        v       alpha (eps - s y0)       y0 = (y - s v / alpha) / (1 + s^2)
        x0      y0
        score   grad log p(y_t)          y0 = y + alpha s^2 score

    with y = y_t / alpha. The DFT is unitary, so a network of spatial-frequency channels sees white
    noise too. The network is put into evaluation mode, without gradients of its weights.

    Args:
        network: Called with y_t and what it is told of the noise, (N,); returns a tensor of the
            shape of y_t, an object that holds it as `.sample`, or a tuple that begins with it.
        predicts: "noise", "v", "x0" or "score".
        schedule: Of csi_audit.schedules; `StepTable` for discrete ones. Its noise is in units of y.
        convention: The network's domain, layout and scaling. Only one factor for all users and all
            coefficients, and no crop: else y would hold another noise than the network knows.
        told: What the network is told: "time" of the schedule (for a table the step, with
            fractions), "step" (the nearest whole one of a `StepTable`, for embedding tables),
            "sigma" or "log_sigma" in units of y; or a function of the time, as lambda t: 999 * t.
    Raises:
        CsiAuditError: an unknown name, steps of a schedule that has none, or a convention with a
            crop or several factors.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        *,
        predicts: Prediction,
        schedule: Schedule,
        convention: Convention,
        told: Told | Callable[[Tensor], Tensor] = "time",
    ) -> None:
        super().__init__()
        _check_name("predicts", predicts, _FORMS)
        if not callable(told):
            _check_name("told", told, get_args(Told))
        if told == "step" and not isinstance(schedule, StepTable):
            raise CsiAuditError(
                f"schedule must be a StepTable with told='step'; got {type(schedule).__name__}, "
                "whose time goes from 0 to 1 without steps. Give its steps as a table, or a "
                "function as told: lambda t: (999 * t).round().long()."
            )
        self.network, self.predicts, self.schedule = network, predicts, schedule
        self.convention, self.told = convention, told
        self.factor = _one_factor(convention)
        self.event_shape: tuple[int, ...] = convention.event_shape
        low, high = schedule.sigma(torch.tensor(schedule.ends, dtype=torch.float64)).tolist()
        self.sigma_min, self.sigma_max = low / self.factor, high / self.factor
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x_sigma = x], the shape of x.

        Raises:
            CsiAuditError: sigma lies outside the schedule, where the network knows nothing, or the
                network returns another shape.
        """
        s = self._own_noise(per_sample(sigma, x).flatten().double())
        t = self.schedule.time(s)
        alpha = self.schedule.alpha(t)
        y, _ = self.convention.to_own(x)

        def shaped(values: Tensor) -> Tensor:  # (N, 1, ..., 1)
            return values.to(x.dtype).view(-1, *[1] * (y.ndim - 1))

        found = _tensor_of(self.network(shaped(alpha) * y, self._told(t, s, x.dtype)), y)
        y0 = _FORMS[self.predicts](y, found, shaped(alpha), shaped(s))
        return self.convention.from_own(y0)

    def _own_noise(self, sigma: Tensor) -> Tensor:
        """s = c sigma, (N,), refused outside the schedule."""
        low, high = self.sigma_min, self.sigma_max
        wrong = ~((sigma * _SLACK >= low) & (sigma <= high * _SLACK))  # NaN is wrong too
        if bool(wrong.any()):
            raise CsiAuditError(
                f"sigma must lie in [{low:.4g}, {high:.4g}] for this network, the noise of its "
                f"schedule in units of x; got {float(sigma[wrong][0]):.4g}. Give the base a "
                "sigma_min and sigma_max within it."
            )
        return self.factor * sigma.clamp(low, high)

    def _told(self, t: Tensor, s: Tensor, dtype: torch.dtype) -> Tensor:
        if callable(self.told):
            return self.told(t.to(dtype))
        if self.told == "step":
            return t.round().long()
        return {"time": t, "sigma": s, "log_sigma": s.log()}[self.told].to(dtype)


def base_of_denoiser(
    denoiser: Denoiser, channels: ChannelSet, *, sigma_max: float | None = None
) -> Base:
    """A base model of a denoiser, with the constants of sampling taken from channels of its law.

    Args:
        denoiser: D(x, sigma) in audit space.
        channels: Users of the law it was trained on: variances, noise range and grid.
        sigma_max: Where sampling starts; None takes ten top eigen-deviations of the users, where
            noise drowns them. A lower start leaves out some of the strongest users.
    Returns:
        Ready for `csi_audit.audit`, as file.py:attr, where a function that returns it will do.
    Raises:
        CsiAuditError: the channels have another shape, or sampling would start above the noise
            that a `ForeignDenoiser` was trained on, as chosen or as given.
    """
    _, x = training_users(channels, seed=0)
    flip = channels.grid.is_ula
    wanted = ten_top_deviations(torch.cat([x, flip_array(x)]) if flip else x)
    lowest, highest = (float(getattr(denoiser, f"sigma_{end}", 0.0)) for end in ("min", "max"))
    if sigma_max is None and highest and wanted > highest:
        raise CsiAuditError(
            f"sigma_max must be given: the channels want a start at {wanted:.4g}, the network was "
            f"trained up to {highest:.4g}. With sigma_max={highest:.4g} the strongest users are "
            "drawn too seldom; csi-audit check-base says how much that matters."
        )
    if sigma_max is not None and highest and not sigma_max <= highest * _SLACK:  # nor NaN
        raise CsiAuditError(
            f"sigma_max must be at most {highest:.4g}, the most noise the network was trained on; "
            f"got {sigma_max:.4g}."
        )
    base = Base(
        denoiser=denoiser,
        variance=coefficient_variance(x, flip=flip),
        sigma_min=max(_LOWEST, lowest),
        sigma_max=round(wanted, 1) if sigma_max is None else sigma_max,
        grid=channels.grid,
        card={"what": "foreign denoiser", "data": channels.source.identity()},
    )
    base.require(tuple(x.shape[1:]), name=channels.source.path)
    return base


def _check_name(what: str, name: str, known: Any) -> None:
    if name not in known:
        raise CsiAuditError(
            f"{what} must be a known name; got {name!r}.{did_you_mean(name, known)}"
        )


def _one_factor(convention: Convention) -> float:
    """c of y = c x + b.

    Raises:
        CsiAuditError: the noise in y would be none of a schedule's.
    """
    if convention.crop_delay not in (None, convention.event_shape[2]):
        raise CsiAuditError(
            f"convention must keep all {convention.event_shape[2]} delay taps; got crop_delay "
            f"{convention.crop_delay}. Such a network says nothing of the later taps."
        )
    std = set(convention.std or (1.0,))
    if convention.n_side or len(std) > 1:
        raise CsiAuditError(
            f"convention must have one factor for all users and coefficients; got "
            f"{convention.describe()}. A factor that differs makes the noise differ too."
        )
    return (convention.scale or 1.0) / std.pop()


def _tensor_of(output: Any, like: Tensor) -> Tensor:
    """The prediction in what a network returned."""
    found = output[0] if isinstance(output, tuple | list) else getattr(output, "sample", output)
    if not isinstance(found, Tensor) or found.shape != like.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise CsiAuditError(
            f"network must return the shape {tuple(like.shape)} of its input; got {shape}. If it "
            "predicts a variance too, cut that off."
        )
    return found
