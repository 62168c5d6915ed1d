"""Nearest training channels up to phase, gain and flip; bases that copy and bases that do not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from channels import ChannelSet, audit_space
from channels.domains import onto_sphere, to_complex
from channels.symmetry import flip_array, random_symmetry
from csi_audit.memorisation import (
    nearest_distance,
    spread_rows,
    train_distortion,
    training_copies,
)

unit = pytest.mark.unit
Draw = Callable[..., ChannelSet]


def brute_force(x: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """The same by solving for the best complex gain of every pair, flipped and not."""
    both = to_complex(torch.cat([train, flip_array(train)])).flatten(1)
    found = []
    for row in to_complex(x).flatten(1):
        gain = (both.conj() @ row) / both.abs().square().sum(1)
        rest = (row - gain[:, None] * both).abs().square().sum(1) / row.abs().square().sum()
        found.append(rest.min())
    return torch.stack(found).double()


@unit
def test_distances_are_those_of_the_best_gain(draw_users: Draw) -> None:
    x, train = (audit_space(draw_users(n, seed=s)) for n, s in ((7, 1), (11, 2)))
    found = nearest_distance(x, [train[:4], train[4:]], block=3)
    assert torch.allclose(found, brute_force(x, train), atol=1e-5)
    unflipped = nearest_distance(x, [train], flip=False)
    assert bool((unflipped >= found - 1e-6).all())
    assert bool((unflipped > found + 1e-3).any())


@unit
def test_copies_are_at_distance_zero_under_the_symmetries(draw_users: Draw) -> None:
    train = audit_space(draw_users(20, seed=3))
    generator = torch.Generator().manual_seed(0)
    turned = 3 * random_symmetry(train, generator=generator)
    assert float(nearest_distance(turned, [train]).max()) < 1e-5
    assert float(nearest_distance(flip_array(train), [train], flip=False).max()) > 0.01
    torn = torch.roll(train.flip(2), shifts=1, dims=2)  # the flip without its ramp
    assert float(nearest_distance(torn, [train]).max()) > 0.01


@unit
def test_a_base_that_copies_is_flagged_and_one_that_draws_is_not() -> None:
    generator = torch.Generator().manual_seed(1)

    def users(n: int) -> torch.Tensor:
        return onto_sphere(torch.randn(n, 2, 4, 4, generator=generator))

    train, held_out = users(300), users(2000)
    noisy = onto_sphere(train[:200] + 0.05 * torch.randn(200, 2, 4, 4, generator=generator))
    near = nearest_distance(held_out, [train]).numpy()
    drops = np.arange(2000) // 50
    for base, verdict in ((noisy, "copies"), (users(1500), "no sign")):
        own = nearest_distance(base, [train]).numpy()
        found = training_copies(own, near, n_train=300, drops=drops)
        assert found.verdict == verdict, found
    assert found.n_train == 300
    assert found.median_base == pytest.approx(found.median_held_out, abs=0.05)
    few = training_copies(near[:3], near, n_train=300)
    assert few.verdict == "cannot tell"
    part = np.concatenate([np.full(150, 1e-6), near])  # 7 % copies among honest draws
    assert training_copies(part, near, n_train=300).verdict == "copies"
    assert training_copies(part, near, n_train=300).nearest_base == pytest.approx(1e-6)


@unit
def test_whom_the_base_takes_after() -> None:
    random = np.random.default_rng(0)
    train, held_out = random.exponential(0.7, 800), random.exponential(1.0, 800)
    likes_train = train_distortion("a", random.exponential(0.7, 500), train, held_out)
    assert likes_train.verdict == "takes after the training users"
    assert likes_train.ks_train < likes_train.ks_held_out
    honest = train_distortion("a", random.exponential(1.0, 500), train, held_out)
    assert honest.verdict == "takes after the held-out users"
    alike = train_distortion("a", random.exponential(0.7, 500), held_out[:400], held_out[400:])
    assert alike.verdict == "alike"
    assert alike.held_out_db == pytest.approx(10 * math.log10(held_out[400:].mean()))
    assert (alike.name, alike.n_train) == ("a", 400)


@unit
def test_rows_are_spread_over_all() -> None:
    assert spread_rows(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_rows(3, 10).tolist() == [0, 1, 2]
