"""The start of every chain, N(0, sigma_max^2 + v_i): right for real channels at ten top deviations.

Kolmogorov-Smirnov on the largest coefficient, against the two-sample floor at alpha = 1e-6.
"""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from channels import ChannelSet, audit_space, flip_array
from csi_audit.base import coefficient_variance, ten_top_deviations
from csi_audit.sampling import start

pytestmark = pytest.mark.statistical
ALPHA = 1e-6


def largest(x: Tensor) -> NDArray[np.float64]:
    """max_i |x_i| of each sample (N,)."""
    return x.flatten(1).abs().amax(1).double().numpy()


def floor(n: int, m: int) -> float:
    """What two samples of one law stay below with probability 1 - alpha."""
    return math.sqrt(-0.5 * math.log(ALPHA / 2) * (1 / n + 1 / m))


def distance(noised: Tensor, started: Tensor) -> float:
    return float(stats.ks_2samp(largest(noised), largest(started)).statistic)


def noise(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=generator)


def test_start_of_real_channels(sample: ChannelSet) -> None:
    """Users in line of sight, whose peaks reach 30, each noised ten times.

    Mutants: sigma_max = 7, beyond whose start a quarter of these users lies, and a start a
    twentieth too narrow.
    """
    generator = torch.Generator().manual_seed(0)
    x = audit_space(sample)
    v = coefficient_variance(x)
    sigma_max = ten_top_deviations(torch.cat([x, flip_array(x)]))
    assert 40 < sigma_max < 70
    sight = x[sample.label("is_los").bool()].repeat(10, 1, 1, 1)
    n = len(sight)

    def found(sigma: float, width: float = 1.0) -> float:
        started = width * start(v, sigma, n, generator=generator)
        return distance(noise(sight, sigma, generator), started)

    mutants = [found(7.0), found(sigma_max, 0.95)]
    assert floor(n, n) < min(mutants) / 3
    assert found(sigma_max) < floor(n, n)
    assert 0.2 < mutants[0] < 0.3


def test_start_carries_the_variance_of_the_data(sample: ChannelSet) -> None:
    """Exact where the data are Gaussian; a start without v_i is told at a small sigma."""
    generator = torch.Generator().manual_seed(1)
    v = coefficient_variance(audit_space(sample))
    n, sigma = 3000, 2.0
    x = v.sqrt() * torch.randn(n, *v.shape, generator=generator)
    noised = noise(x, sigma, generator)
    mutant = distance(noised, start(0 * v, sigma, n, generator=generator))
    assert floor(n, n) < mutant / 3
    assert distance(noised, start(v, sigma, n, generator=generator)) < floor(n, n)
