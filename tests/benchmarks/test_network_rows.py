"""Coverage of single groups: narrow intervals that miss count as misses."""

from typing import Any

import numpy as np
import pytest

from benchmarks.network_rows import coverage, group_coverage
from reports.estimates import proportion


def group(value: float, half: float) -> dict[str, Any]:
    return {"interval": np.array([[value - half, value + half]])}


@pytest.mark.unit
def test_narrow_intervals_that_miss_count_in_their_group() -> None:
    """Too narrow to be judged by the count alone, but the groups together are wide enough."""
    plain = proportion(1000, 100_000)  # 0.01 with a standard error of 0.0003
    groups = [group(0.01, 0.003), group(0.012, 0.0005), group(0.008, 0.0005)]
    each = [group_coverage(one, [plain], groups) for one in groups]
    assert each == [1.0, 0.0, 0.0]
    assert coverage(plain, groups, 0) == pytest.approx(1 / 3)


@pytest.mark.unit
def test_a_group_without_a_known_count_has_no_coverage() -> None:
    groups = [group(0.01, 0.002)]
    blunt, sharp = proportion(10, 1000), proportion(1000, 100_000)
    assert group_coverage(groups[0], [blunt], groups) is None
    both = [{"interval": np.array([[0.008, 0.012], [0.011, 0.015]])}]
    assert group_coverage(both[0], [sharp, sharp], both) == 0.5
    assert group_coverage(both[0], [blunt, sharp], both) == 0.0
