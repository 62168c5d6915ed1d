"""The realism gate in words."""

import numpy as np
import pytest

from reports import base_verdict, fidelity_summary, realism_item
from reports.words import realism_phrase

pytestmark = pytest.mark.unit


def test_verdicts_follow_the_floor_and_the_limit() -> None:
    rng = np.random.default_rng(0)
    real, n = rng.random(2000), 2000
    same = realism_item("a", rng.random(n), real, kind="distortion")
    near = realism_item("b", rng.random(n) * 0.93, real, kind="distortion")
    far = realism_item("delay_spread_s", rng.random(n) * 0.7, real, kind="feature")
    none = realism_item("c", None, real, kind="distortion")
    words = [item.verdict for item in (same, near, far, none)]
    assert words == ["within chance", "off by little", "off", "not checked"]
    assert far.label == "delay spread"
    assert (none.ks, none.n_base, none.n_real) == (None, 0, 2000)
    assert base_verdict([same, near, far]) == "credible"  # features do not decide
    assert base_verdict([same, realism_item("d", real * 2, real, kind="distortion")]) == "misses"
    assert base_verdict([far, none]) == "not checked"
    assert fidelity_summary([same, near, far, none])["feature_ks"] == far.ks
    assert fidelity_summary([none]) == {"distortion_ks": None, "feature_ks": None}
    assert realism_phrase(none) == "not checked"
    assert realism_phrase(far) == "off (11.0 times a perfect model's mean)"


def test_few_samples_are_not_called_off_by_chance() -> None:
    """At 30 samples a perfect model reaches 0.25 by chance, above the limit of 0.10."""
    rng = np.random.default_rng(1)
    item = realism_item("a", rng.random(30), rng.random(2000), kind="distortion")
    assert (item.floor_95 or 0) > 0.2
    assert item.verdict == "within chance"
