"""The KLT that a card sets beside a compressor: of equal length, or of equal bits if quantised.

A KLT that sends real numbers says nothing of a code of few bits, nor does it lose to one.
"""

from collections.abc import Mapping
from typing import Any

SAME_LENGTH = "klt_same_code_length_nmse_db"
SAME_BITS = "klt_same_bits_nmse_db"
"""Keys of a card; it has one of them, or none if it is of a quantised KLT itself."""

_IN_WORDS = {SAME_LENGTH: "KLT of equal code length", SAME_BITS: "quantised KLT of equal bits"}


def klt_beside(card: Mapping[str, Any]) -> tuple[str, float] | None:
    """Which KLT a card compares with, in words, and its validation NMSE [dB]; None if with none."""
    for key, words in _IN_WORDS.items():
        if card.get(key) is not None:
            return words, float(card[key])
    return None
