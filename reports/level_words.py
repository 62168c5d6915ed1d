"""Levels, shares and lists in words: the small parts that sentences and cells are made of."""

from collections.abc import Sequence

UNKNOWN = "unknown"


def decibel(value: float | None, digits: int = 2) -> str:
    """A level as text with a true minus sign: "−5 dB", "−0.41 dB"; None reads "unknown"."""
    if value is None:
        return UNKNOWN
    return f"{number(value, digits)} dB"


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits, trailing zeros dropped, a true minus sign; None reads "unknown"."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text.replace("-", "−")


def level_text(level: float, unit: str) -> str:
    """A level of a loss with its unit, "1" for none: "1.2 dB", "0.034"."""
    if unit == "1":
        return f"{level:.3g}".replace("-", "−")
    return f"{number(level)} {unit}"


def share_text(share: float) -> str:
    """0.01 as "1 %"."""
    return f"{100 * share:g} %"


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: "A", "A and B", "A, B and C"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def lower_first(text: str) -> str:
    """First letter in lower case, unless the word is an acronym such as RMS."""
    return text[:1].lower() + text[1:] if not text[:2].isupper() else text
