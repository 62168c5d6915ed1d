"""Weights as float16 would hold them: in a file of half the size, and for what that costs."""

from collections.abc import Mapping

from torch import Tensor


def rounded_to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Each floating-point number through float16 and back to its own dtype.

    Infinities that are there already stay what they are: tables of unequal length end in them.

    Args:
        weights: A state dict; whole numbers are left alone.
    Returns:
        A new one; None where rounding makes a finite number infinite.
    """
    rounded: dict[str, Tensor] = {}
    for name, value in weights.items():
        half = value.half() if value.is_floating_point() else value
        if bool((half.isinf() & ~value.isinf()).any()):
            return None
        rounded[name] = half.to(value)
    return rounded
