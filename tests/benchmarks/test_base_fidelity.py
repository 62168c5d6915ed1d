"""The benchmark of the base model, at toy size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import base_fidelity
from channels import FEATURES
from compressors import bundled_compressors
from csi_audit.base import load_base
from reports.estimates import ks_floor

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("chain", ["ode_2m", "ancestral"])
def test_every_distortion_and_feature_is_compared(
    start: Callable[..., dict[str, Any]], toy_files: dict[str, Path], chain: str
) -> None:
    base = str(toy_files["base"])
    sizes = ["--samples", "40", "--steps", "3"]
    found = start(base_fidelity.main, "base_fidelity", *sizes, "--chain", chain, "--base", base)
    distortions = [f"NMSE of {name}" for name in bundled_compressors()]
    assert [row["quantity"] for row in found["rows"]] == [*distortions, *FEATURES]
    floor = ks_floor(40, 60)
    for row in found["rows"]:
        assert 0 < row["ks"] <= 1
        assert (row["perfect_mean"], row["perfect_95"]) == (
            round(floor.mean, 4),
            round(floor.upper, 4),
        )
    assert [check["id"] for check in found["checks"]] == [f"KS {name}" for name in distortions]
    for check, row in zip(found["checks"], found["rows"], strict=False):
        assert (check["relation"], check["limit"]) == ("<=", 0.1)
        assert round(check["value"], 4) == row["ks"]
        assert check["interval"] == row["ks_interval"]
        assert check["interval"][0] <= check["value"] <= check["interval"][1] + 1e-4
        # At 40 samples a perfect model would break the limit itself: nothing can pass.
        assert check["verdict"] in ("short", "cannot tell")
    given = found["sizes"]
    assert (given["base_samples"], given["real_users"], given["steps"]) == (40, 60, 3)
    assert given["evaluations"] == 120
    assert given["base_sha256"] == load_base(toy_files["base"]).sha256
    assert given["chain"].startswith("ancestral" if chain == "ancestral" else "probability-flow")
