"""Named random generators: every stream of random numbers is a function of (seed, names)."""

import hashlib

import torch


def seeded_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator that depends on the seed and the names alone, never on what ran before.

    Training step s draws from `seeded_generator(seed, "step", s)` and sampling block b from
    `seeded_generator(seed, "base", b)`, so an interrupted run repeats itself exactly.

    Args:
        seed: The user's seed.
        names: What the stream is for, for example a purpose and a block number.
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
