"""The container of placements: there and back, and what it refuses."""

import numpy as np
import pytest

from channels.network import CellNetwork
from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError
from reports.placement_arrays import FailurePlacements, PlacementArrays

pytestmark = pytest.mark.unit

FULL = CellNetwork(
    shadowing=Shadowing(spread_db=3.0, seed=4),
    pattern=SectorPattern(boresight_deg=(45.0, 135.0, 270.0)),
    load=(1.0, 0.5, 1.0),
    scale="linear",
)


def make(network: CellNetwork | None = None, *, real: int = 3) -> PlacementArrays:
    x = np.random.default_rng(0).uniform(-1, 1, (6, 4, 2)).astype(np.float32)
    return PlacementArrays(
        network=CellNetwork() if network is None else network,
        x_base=x,
        log_w=np.zeros(6),
        x_real=x[:real],
        losses_base={"a": np.arange(6.0), "b ü": np.ones(6)},
        losses_real={"a": np.arange(float(real))} if real else {},
        log_l={"a": np.array([-np.inf, 0, 0, 0, 0, 0])},
        features_base={"f": np.ones(6)},
        failures={
            "a": FailurePlacements(x=x[:2], log_w=np.zeros(2), clusters=np.array([0, 1])),
            "b ü": FailurePlacements(x=x[2:3], log_w=np.zeros(1)),
        },
        tau={"a": 3.5, "b ü": -1.0},
    )


@pytest.mark.parametrize("network", [CellNetwork(), FULL])
def test_arrays_come_back_as_they_went(network: CellNetwork) -> None:
    arrays = make(network)
    again = PlacementArrays.from_flat(arrays.to_flat())
    assert again.network == network
    assert (again.x_base == arrays.x_base).all()
    assert (again.x_real == arrays.x_real).all()
    assert (again.tau, list(again.losses_base)) == (arrays.tau, ["a", "b ü"])
    assert (again.log_l["a"] == arrays.log_l["a"]).all()
    assert again.failures["a"].clusters is not None
    assert again.failures["a"].clusters.tolist() == [0, 1]
    assert again.failures["b ü"].clusters is None
    assert again.n_users == 4


def test_there_need_be_no_real_side_and_no_failures() -> None:
    arrays = make(real=0)
    again = PlacementArrays.from_flat(arrays.to_flat())
    assert again.x_real.shape == (0, 4, 2)
    assert again.losses_real == {}


def test_shapes_that_do_not_fit_are_refused() -> None:
    x = np.zeros((2, 4, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=r"x_real must be \(n, 4, 2\); got \(2, 3, 2\)"):
        PlacementArrays(network=FULL, x_base=x, log_w=np.zeros(2), x_real=x[:, :3])
    with pytest.raises(ValueError, match=r"x_base must lie in \[-1, 1\]. Are these metres\?"):
        PlacementArrays(network=FULL, x_base=50 + x, log_w=np.zeros(2), x_real=x[:0])
    with pytest.raises(ValueError, match=r"losses_base\[a\] must be \(2,\); got \(3,\)"):
        PlacementArrays(network=FULL, x_base=x, log_w=np.zeros(2), x_real=x[:0],
                        losses_base={"a": np.zeros(3)})  # fmt: skip
    with pytest.raises(ValueError, match=r"log_w must be \(2,\); got \(1,\)"):
        FailurePlacements(x=x, log_w=np.zeros(1))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network", None, "report arrays lack network"),
        ("network", np.frombuffer(b"{}", dtype=np.uint8), "report arrays lack shadowing"),
        ("x_base", np.full((6, 4, 2), np.nan), "are damaged or foreign: x_base must be finite"),
        ("losses_base/0", np.zeros((6, 1)), "losses_base must hold numbers, 1 axes"),
        ("failures/x/0", None, "report arrays lack failures/x/0"),
        ("log_w", np.zeros(5), r"log_w must be \(6,\); got \(5,\)"),
    ],
)
def test_damaged_arrays_are_one_line(key: str, value: object, message: str) -> None:
    flat = dict(make().to_flat())
    if value is None:
        del flat[key]
    else:
        flat[key] = np.asarray(value)
    with pytest.raises(CsiAuditError, match=message) as caught:
        PlacementArrays.from_flat(flat)
    assert "\n" not in str(caught.value)
