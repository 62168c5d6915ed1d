"""How large a base model to train, and how long: what `fit-base` chooses from the data, in words.

`BASE_PLAN` fixes the scale: what 16,000 users of 32 antennas and 32 delay taps take.
"""

import math
from dataclasses import dataclass, replace

from channels.support import CsiAuditError
from compressors.plans import Plan
from csi_audit.networks import NetworkSpec

REFERENCE_USERS = 16_000
BLOCKS = 40
_FEW_USERS = 4_000
SMALL = NetworkSpec(options=(("channels", 4), ("hidden", 160), ("depth", 4)))
"""What "small" stands for: a fifth of the usual weights, four times the evaluations a second."""
_WIDTHS = {"axial_mixer": ("hidden", 256), "tap_transformer": ("width", 192), "unet": ("width", 32)}


@dataclass(frozen=True, kw_only=True)
class BaseSizes:
    """A network, a plan, and the choice in a sentence."""

    network: NetworkSpec
    plan: Plan
    words: str


def choose_sizes(
    n_users: int,
    event_shape: tuple[int, ...],
    *,
    default: Plan,
    network: str | NetworkSpec | None = None,
    steps: int | None = None,
    block_steps: int | None = None,
    batch_size: int | None = None,
    devices: int = 1,
) -> BaseSizes:
    """Sizes for some users of an array; what is given is kept, steps up to whole blocks.

        batch     default; half of it below 4,000 users; on each device
        passes    P sqrt(16,000 / n_users) over all users, P what `default` makes of 16,000: few
                  users are seen more often, but four times as many cost only twice as much; 1/16
                  to 8 times the default's cost
        block     1/40 of the steps, in tens; of given steps 1/64 to 1/20, so that steps are rounded
                  to whole blocks as little as can be
        width     the network's own; half of it below 4,000 users, or up to 16 antennas and taps;
                  twice from 64 antennas or taps on

    Args:
        n_users: Training users.
        event_shape: (2 n_rx, n_tx, n_delay).
        default: Plan of 16,000 users; everything that is not chosen here is its.
        network: Name, whose width is chosen where it is known here; "small", or one that is kept;
            None is the usual one.
        steps, block_steps, batch_size: Given ones, or None.
        devices: Devices that share the work.
    Raises:
        CsiAuditError: given steps are no multiple of given block_steps, or a size is below 1.
    """
    sizes = {"steps": steps, "block_steps": block_steps, "batch_size": batch_size}
    for name, value in {**sizes, "devices": devices}.items():
        if value is not None and value < 1:
            raise CsiAuditError(f"{name} must be at least 1; got {value}.")
    batch = _batch(n_users, default) if batch_size is None else batch_size
    if steps is None:
        wanted = _wanted(n_users, default, batch * devices)
        tens = 10 * math.ceil(wanted / BLOCKS / 10) if wanted > 10 * BLOCKS else 1
        block = tens if block_steps is None else block_steps
    else:
        wanted, block = steps, _block_of(steps) if block_steps is None else block_steps
    exact = steps is not None and block_steps is not None  # the plan refuses what does not fit
    taken = wanted if exact else _whole(wanted, block)
    plan = replace(default, steps=taken, block_steps=block, batch_size=batch)
    if network == "small":
        network = SMALL
    elif not isinstance(network, NetworkSpec):
        network = _spec(network or NetworkSpec().name, n_users, event_shape)
    words = _words(n_users, event_shape, network, plan, devices)
    why = _rule(default) if steps is None else _rounding(steps, plan)
    return BaseSizes(network=network, plan=plan, words=words + why)


def _batch(n_users: int, default: Plan) -> int:
    return max(1, default.batch_size // 2) if n_users < _FEW_USERS else default.batch_size


def _wanted(n_users: int, default: Plan, users_a_step: int) -> int:
    """Steps by the rule, before they are rounded to blocks."""
    growth = math.sqrt(n_users / REFERENCE_USERS)
    samples = default.steps * default.batch_size * min(8.0, max(1 / 16, growth))
    return max(1, math.ceil(samples / users_a_step))


def _block_of(steps: int) -> int:
    """Steps a block that make 20 to 64 blocks of about these steps, as near to them as can be, and
    of those the nearest to 40 blocks on the log scale.

    >>> _block_of(1000), _block_of(150), _block_of(7), _block_of(997)
    (25, 3, 1, 27)
    """
    possible = range(math.ceil(steps / 64), math.ceil(steps / 20) + 1)
    return min(
        [d for d in possible if round(steps / d) >= min(20, steps)],
        key=lambda d: (abs(steps - _whole(steps, d)), abs(math.log(d * BLOCKS / steps))),
    )


def _whole(steps: int, block: int) -> int:
    """The whole blocks nearest to some steps, at least one, in steps."""
    return block * max(1, round(steps / block))


def _spec(network: str, n_users: int, event_shape: tuple[int, ...]) -> NetworkSpec:
    longest = max(event_shape[1:])
    factor = (2.0 if longest >= 64 else 0.5 if longest <= 16 else 1.0) * (
        0.5 if n_users < _FEW_USERS else 1.0
    )
    factor = max(0.5, factor)
    if network not in _WIDTHS or factor == 1.0:
        usual = NetworkSpec()
        return usual if network == usual.name else NetworkSpec(name=network)
    option, width = _WIDTHS[network]
    return NetworkSpec(name=network, options=((option, int(factor * width)),))


def _words(
    n_users: int, event_shape: tuple[int, ...], spec: NetworkSpec, plan: Plan, devices: int
) -> str:
    own = ", ".join(f"{name} {value}" for name, value in spec.options) or "its own width"
    passes = plan.steps * plan.batch_size * devices / n_users
    each = "" if devices == 1 else f" on each of {devices} devices"
    return (
        f"{n_users:,} training users of {' x '.join(map(str, event_shape))}: network {spec.name} "
        f"({own}), {plan.steps:,} steps of {plan.batch_size} users{each}, {passes:,.0f} passes "
        f"over all; measured and saved every {plan.block_steps} steps."
    )


def _rule(default: Plan) -> str:
    """How steps were chosen."""
    passes = default.steps * default.batch_size / REFERENCE_USERS
    return (
        f" Rule: passes {passes:g} sqrt({REFERENCE_USERS:,} / users), at 1/16 to 8 times the cost "
        f"of {REFERENCE_USERS:,} users; --steps, --batch_size and --block_steps override it."
    )


def _rounding(steps: int, plan: Plan) -> str:
    """What became of given steps."""
    if steps == plan.steps:
        return ""
    return f" {steps:,} steps were asked for: rounded to whole blocks of {plan.block_steps}."
