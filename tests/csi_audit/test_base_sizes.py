"""The sizes `fit-base` chooses: the bundled base's for its users, a rule in words for others."""

import inspect
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import CsiAuditError
from compressors.plans import Plan
from csi_audit import networks
from csi_audit.base_sizes import _WIDTHS, SMALL, choose_sizes
from csi_audit.configs import BASE_PLAN
from csi_audit.networks import NetworkSpec

SHAPE = (2, 32, 32)


@pytest.mark.unit
def test_the_users_of_the_bundled_base_get_its_plan() -> None:
    sizes = choose_sizes(16_000, SHAPE, default=BASE_PLAN)
    assert sizes.plan == BASE_PLAN
    assert sizes.network == NetworkSpec()
    assert (
        "16,000 training users of 2 x 32 x 32: network axial_mixer (its own width)" in sizes.words
    )
    assert f"{BASE_PLAN.steps:,} steps of {BASE_PLAN.batch_size} users, 160 passes" in sizes.words


@pytest.mark.unit
def test_the_rule_is_told_where_it_was_used() -> None:
    """With the number of passes of the default plan, and the bounds of its cost."""
    default = replace(BASE_PLAN, steps=10_000)
    rule = "Rule: passes 80 sqrt(16,000 / users), at 1/16 to 8 times the cost of 16,000 users"
    assert rule in choose_sizes(500, SHAPE, default=default).words
    assert rule in choose_sizes(500, SHAPE, default=default, batch_size=8).words
    assert "Rule" not in choose_sizes(500, SHAPE, default=default, steps=100).words


@pytest.mark.unit
def test_devices_share_the_work() -> None:
    """Batches are per device: half the steps on two, the same passes."""
    one, two = (choose_sizes(16_000, SHAPE, default=BASE_PLAN, devices=n) for n in (1, 2))
    assert two.plan.steps == one.plan.steps // 2
    assert two.plan.batch_size == one.plan.batch_size
    assert "steps of 128 users on each of 2 devices, 160 passes" in two.words
    assert "steps of 128 users, 160 passes" in one.words
    fixed = choose_sizes(16_000, SHAPE, default=BASE_PLAN, devices=2, steps=1000)
    assert "1,000 steps of 128 users on each of 2 devices, 16 passes" in fixed.words


@pytest.mark.property
@given(st.integers(1, 3_000_000), st.integers(1, 256), st.integers(1, 256))
def test_every_choice_is_a_plan(n_users: int, n_tx: int, n_delay: int) -> None:
    """Of the default's cost times a root of the users, within 1/16 and 8, in 8 to 64 blocks."""
    plan = choose_sizes(n_users, (2, n_tx, n_delay), default=BASE_PLAN).plan
    blocks = plan.steps // plan.block_steps
    assert 8 <= blocks <= 64
    cost = plan.steps * plan.batch_size / (BASE_PLAN.steps * BASE_PLAN.batch_size)
    root = min(8.0, max(1 / 16, (n_users / 16_000) ** 0.5))
    assert cost == pytest.approx(root, rel=0.1)
    assert plan.learning_rate == BASE_PLAN.learning_rate


@pytest.mark.unit
@pytest.mark.parametrize(
    ("n_users", "shape", "options"),
    [
        (3_999, SHAPE, (("hidden", 128),)),
        (4_000, SHAPE, ()),
        (16_000, (2, 64, 32), (("hidden", 512),)),
        (16_000, (2, 16, 16), (("hidden", 128),)),
        (16_000, (2, 16, 32), ()),
        (500, (2, 8, 8), (("hidden", 128),)),  # never below half
        (500, (4, 32, 128), ()),
    ],
)
def test_the_width_follows_users_and_array(
    n_users: int, shape: tuple[int, ...], options: tuple[tuple[str, int], ...]
) -> None:
    assert choose_sizes(n_users, shape, default=BASE_PLAN).network.options == options


@pytest.mark.unit
def test_small_is_a_fifth_of_the_usual_network(seeded_torch: None) -> None:
    """Whatever the number of users, at the usual plan."""
    for n_users in (500, 16_000):
        usual, small = (choose_sizes(n_users, SHAPE, default=BASE_PLAN, network=name)
                        for name in (None, "small"))  # fmt: skip
        assert small.network == SMALL
        assert small.plan == usual.plan
    assert "network axial_mixer (channels 4, hidden 160, depth 4)" in small.words
    weights = [sum(p.numel() for p in spec.build(5, 3, 32, 32).parameters())
               for spec in (SMALL, NetworkSpec())]  # fmt: skip
    assert weights[0] == pytest.approx(weights[1] / 5, rel=0.15)


@pytest.mark.unit
def test_widths_are_those_of_the_networks(seeded_torch: None) -> None:
    kinds = {
        "axial_mixer": networks.AxialMixer,
        "tap_transformer": networks.TapTransformer,
        "unet": networks.UNet,
    }
    for name, (option, width) in _WIDTHS.items():
        assert inspect.signature(kinds[name]).parameters[option].default == width
        spec = choose_sizes(500, SHAPE, default=BASE_PLAN, network=name).network
        assert spec.build(5, 3, 32, 32)  # a network there is
    own = NetworkSpec(name="axial_mixer", options=(("depth", 2),))
    assert choose_sizes(500, SHAPE, default=BASE_PLAN, network=own).network == own
    unknown = choose_sizes(500, SHAPE, default=BASE_PLAN, network="unets").network
    assert unknown == NetworkSpec(name="unets")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("given_sizes", "steps", "block", "batch"),
    [
        ({"steps": 1000}, 1000, 25, 128),
        ({"steps": 7}, 7, 1, 128),
        ({"steps": 150, "block_steps": 5, "batch_size": 16}, 150, 5, 16),
        ({"steps": 90, "block_steps": 90}, 90, 90, 128),  # one block, if that is what is asked for
        ({"batch_size": 64}, 32_000, 800, 64),
        ({"block_steps": 300}, 53 * 300, 300, 128),
    ],
)
def test_given_sizes_are_kept(
    given_sizes: dict[str, int], steps: int, block: int, batch: int
) -> None:
    default = Plan(steps=16_000, block_steps=500, batch_size=128)
    plan = choose_sizes(16_000, SHAPE, default=default, **given_sizes).plan  # type: ignore[arg-type]
    assert (plan.steps, plan.block_steps, plan.batch_size) == (steps, block, batch)


@pytest.mark.property
@given(st.integers(1, 100_000))
def test_given_steps_are_rounded_to_whole_blocks(steps: int) -> None:
    """Never one large block, which a kill would cost; as near as 20 to 64 blocks can be."""
    sizes = choose_sizes(16_000, SHAPE, default=BASE_PLAN, steps=steps)
    plan = sizes.plan
    blocks = plan.steps // plan.block_steps
    assert min(20, steps) <= blocks <= 64
    assert abs(plan.steps - steps) <= steps / 40
    possible = range(20, 65)
    nearest = min(abs(k * d - steps) for k in possible for d in (steps // k, steps // k + 1))
    if steps > 64:
        assert abs(plan.steps - steps) == nearest
    asked = f" {steps:,} steps were asked for: rounded to whole blocks of {plan.block_steps}."
    assert (asked in sizes.words) == (plan.steps != steps)


@pytest.mark.unit
@pytest.mark.parametrize("name", ["steps", "block_steps", "batch_size", "devices"])
def test_sizes_below_one(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(CsiAuditError, match=rf"{name} must be at least 1; got 0"):
        choose_sizes(16_000, SHAPE, default=BASE_PLAN, **options)


@pytest.mark.unit
def test_steps_that_are_no_blocks() -> None:
    options: dict[str, Any] = {"steps": 100, "block_steps": 30}
    with pytest.raises(CsiAuditError, match=r"steps must be a multiple of block_steps; got 100"):
        choose_sizes(16_000, SHAPE, default=BASE_PLAN, **options)
