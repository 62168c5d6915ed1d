"""Named random streams: a function of seed and names alone."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels.randomness import seeded_generator

NAME = st.one_of(st.integers(-5, 10**6), st.text(st.characters(codec="ascii"), max_size=5))
NAMES = st.lists(NAME, max_size=4)


def first(seed: int, names: Sequence[str | int]) -> float:
    generator = seeded_generator(seed, *names)
    return float(torch.rand((), generator=generator, dtype=torch.float64))


@pytest.mark.property
@given(st.integers(0, 2**40), NAMES)
def test_the_same_names_give_the_same_stream(seed: int, names: list[str | int]) -> None:
    """Whatever was drawn in between, and leaving torch's global generator alone."""
    before = torch.get_rng_state()
    generator = seeded_generator(seed, *names)
    torch.rand(7, generator=generator)
    assert first(seed, names) == first(seed, names)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.property
@given(st.integers(0, 100), NAMES, st.integers(0, 100), NAMES)
def test_other_names_give_another_stream(
    seed: int, names: list[str | int], other_seed: int, others: list[str | int]
) -> None:
    same = [str(seed), *map(str, names)] == [str(other_seed), *map(str, others)]
    printable = not any("\x1f" in str(name) for name in (*names, *others))
    if printable:
        assert (first(seed, names) == first(other_seed, others)) == same


@pytest.mark.unit
def test_names_do_not_run_together() -> None:
    streams = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("step", 1, 1), ("step", 11)]
    assert len({first(0, names) for names in streams}) == len(streams)
    assert first(1, ("2",)) != first(12, ())


@pytest.mark.golden
def test_the_streams_of_shipped_weights() -> None:
    """Stored weights can only be made again while these numbers stand."""
    assert seeded_generator(0, "batch", 0, 0).initial_seed() == 1_510_887_480
    index = torch.randint(16_000, (4,), generator=seeded_generator(0, "batch", 7, 0))
    assert index.tolist() == [6466, 3672, 6312, 15227]


@pytest.mark.unit
def test_steps_have_streams_of_their_own() -> None:
    """10,000 steps share hardly a seed of 32 bits, and their numbers do not correlate."""
    values = torch.tensor([first(0, ("noise", step)) for step in range(10_000)])
    assert len(values.unique()) > 9_990
    assert float(values.mean()) == pytest.approx(0.5, abs=5 / (12 * 10_000) ** 0.5)
    lagged = torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1]
    assert abs(float(lagged)) < 5 / 100
