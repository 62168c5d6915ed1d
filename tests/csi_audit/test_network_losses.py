"""The losses of a network as an audit names them, and the weights that lead to them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels.network import CellNetwork
from channels.placements import UniformUsers
from csi_audit.losses import in_blocks
from csi_audit.network_losses import OutageAsked, asked_losses, usual_at_least
from csi_audit.network_settings import LOSS_NAMES

pytestmark = pytest.mark.unit


def asked(at_least: int = 3, **changed: float) -> dict[str, OutageAsked]:
    plain = {"tau_db": 0.0, "floor": 0.01, **changed}
    found = asked_losses(LOSS_NAMES, CellNetwork(), n_users=5, at_least=at_least, **plain)
    return {one.name: one for one in found}


def draws(n: int = 400) -> torch.Tensor:
    return UniformUsers(n_users=5).draw(n, generator=torch.Generator().manual_seed(0))


def test_more_than_two_fifths() -> None:
    assert [usual_at_least(n) for n in (1, 2, 3, 5, 10, 20)] == [1, 1, 2, 3, 5, 9]


@given(n_users=st.integers(1, 200))
def test_that_many_is_the_least_above_two_fifths(n_users: int) -> None:
    m = usual_at_least(n_users)
    assert 5 * m > 2 * n_users >= 5 * (m - 1)


def test_names_units_and_words() -> None:
    found = asked()
    assert list(found) == ["expected_outage", "joint_outage", "shortfall_db"]
    assert [one.unit for one in found.values()] == ["1", "1", "dB"]
    assert [one.audited.symbol for one in found.values()] == [
        "expected outage",
        "joint outage",
        "shortfall",
    ]
    assert found["joint_outage"].label == "joint outage of 3 or more of 5 users"
    assert found["shortfall_db"].label == "shortfall of the 3rd worst user"
    assert asked(1)["shortfall_db"].label == "shortfall of the worst user"
    assert asked(2)["shortfall_db"].label == "shortfall of the 2nd worst user"
    assert all(one.definition.endswith(".") for one in found.values())


@pytest.mark.parametrize("floor", [0.01, 0.2])
def test_weights_rise_from_the_floor_with_the_loss(floor: float) -> None:
    x = draws()
    for name, one in asked(floor=floor).items():
        values = in_blocks(one.audited.loss, x).numpy()
        weights = one.audited.weights_of(x, values)
        if one.unit == "1":
            expected = floor + (1 - floor) * values
        else:
            expected = floor + (1 - floor) / (1 + np.exp(-values))
        np.testing.assert_allclose(weights, expected, rtol=1e-4, err_msg=name)
        assert one.audited.refusal(x) == ""


def test_the_weight_of_the_shortfall_follows_its_threshold() -> None:
    x = draws()
    one = asked(tau_db=-4.0)["shortfall_db"]
    values = in_blocks(one.audited.loss, x).numpy()
    expected = 0.01 + 0.99 / (1 + np.exp(-(values + 4.0)))
    np.testing.assert_allclose(one.audited.weights_of(x, values), expected, rtol=1e-4)
    assert "at −4 dB" in one.weight
