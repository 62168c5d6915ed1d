"""Features and maps of placements, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from channels.network import CellNetwork
from channels.placement_domain import PLACEMENT_FEATURES, PlacementDomain
from channels.support import CsiAuditError


def at(*points: tuple[float, float]) -> Tensor:
    """One placement of users at these metres, (1, n, 2)."""
    return CellNetwork().to_square(torch.tensor([points]))


@pytest.mark.unit
def test_features_by_hand() -> None:
    """Two users by the lower left station, one by the lower right, near the middle."""
    domain = PlacementDomain(n_users=3)
    x = at((3, 4), (6, 8), (51, 0))
    found = domain.features(x)
    assert set(found) == set(PLACEMENT_FEATURES) == set(domain.labels)
    assert all(value.dtype == torch.float32 and value.shape == (1,) for value in found.values())
    plain = {name: float(value) for name, value in found.items()}
    assert plain["station_distance_m"] == pytest.approx((5 + 10 + 49) / 3, rel=1e-4)
    assert plain["farthest_user_m"] == pytest.approx(49, rel=1e-4)
    assert plain["edge_users"] == 1
    assert plain["closest_pair_m"] == pytest.approx(5, rel=1e-4)
    assert plain["busiest_cell"] == pytest.approx(2 / 3)
    centre = (20.0, 4.0)
    squares = [(a - centre[0]) ** 2 + (b - centre[1]) ** 2 for a, b in ((3, 4), (6, 8), (51, 0))]
    assert plain["user_spread_m"] == pytest.approx(math.sqrt(sum(squares) / 3), rel=1e-4)
    assert plain["worst_sinr_db"] == pytest.approx(float(CellNetwork().sinr_db(x).min()), rel=1e-5)


@pytest.mark.unit
def test_what_one_user_or_station_cannot_have_is_left_out() -> None:
    single = PlacementDomain(n_users=1, network=CellNetwork(stations_m=((10.0, 10.0),)))
    found = single.features(at((13, 14)))
    assert {"closest_pair_m", "user_spread_m", "edge_users"}.isdisjoint(found)
    assert float(found["station_distance_m"]) == pytest.approx(5, rel=1e-4)


@pytest.mark.unit
def test_order_of_users_changes_no_feature() -> None:
    domain = PlacementDomain(n_users=5)
    x = 2 * torch.rand(40, 5, 2, generator=torch.Generator().manual_seed(0)) - 1
    found, turned = domain.features(x), domain.features(x.flip(1))
    for name, value in found.items():
        assert torch.allclose(turned[name], value, rtol=1e-4), name


@pytest.mark.unit
def test_map_counts_users_by_weight_as_y_x() -> None:
    domain = PlacementDomain(n_users=2)
    x = torch.tensor([[[-0.9, -0.9], [0.9, -0.9]], [[-0.9, 0.9], [1.0, 1.0]]])
    density = domain.maps(x, bins=2)
    assert torch.equal(density, torch.ones(2, 2, dtype=torch.float64))
    weighted = domain.maps(x, torch.tensor([0.0, math.log(3)]), bins=2)
    assert torch.allclose(weighted, torch.tensor([[0.5, 0.5], [1.5, 1.5]], dtype=torch.float64))
    alone = domain.maps(x, torch.tensor([0.0, -math.inf]), bins=2)
    assert alone.tolist() == [[2.0, 2.0], [0.0, 0.0]]


@pytest.mark.unit
def test_onto_law_and_shape() -> None:
    domain = PlacementDomain(n_users=2)
    assert domain.event_shape == (2, 2)
    x = torch.tensor([[[1.2, 0.0], [-3.0, 0.5]]])
    assert torch.allclose(domain.onto_law(x), torch.tensor([[[0.8, 0.0], [1.0, 0.5]]]))
    for refused in (domain.features, domain.onto_law, domain.maps):
        with pytest.raises(CsiAuditError, match=r"must be \(N, 2, 2\) placements; got \(1, 3, 2\)"):
            refused(torch.zeros(1, 3, 2))
    with pytest.raises(CsiAuditError, match="n_users must be at least 1; got 0"):
        PlacementDomain(n_users=0)
