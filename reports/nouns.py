"""What the samples of an audit are called: channels, placements of users, draws of their law."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Nouns:
    """Words for the two sides of an audit.

    Attributes:
        audited: What is audited, with a capital.
        thing: What is sampled.
        measure: What is measured of it.
        real: What the base samples are compared with, plural.
        one_real: The same, singular.
        short: One word for it, for the head of a column.
        where: Head of the column that says where a mode has its failures.
        counting: What intervals of tail ratios take as independent.
    """

    audited: str = "Compressor"
    thing: str = "channel"
    measure: str = "distortion"
    real: str = "real channels"
    one_real: str = "real channel"
    short: str = "real"
    where: str = "Where the error lies"
    counting: str = "Intervals are over drops."

    @property
    def things(self) -> str:
        """What is sampled, plural."""
        return f"{self.thing}s"

    @property
    def measures(self) -> str:
        """What is measured, plural."""
        return f"{self.measure}s" if not self.measure.endswith("s") else f"{self.measure}es"

    @property
    def title(self) -> str:
        """`real`, with a capital."""
        return self.real[:1].upper() + self.real[1:]


CHANNELS = Nouns()
_SINGLY = "Intervals take every placement as independent."
_UNSERVED = "Where the unserved users stand"
PLACEMENTS = Nouns(
    audited="Loss", thing="placement", measure="loss", real="real placements",
    one_real="real placement", where=_UNSERVED, counting=_SINGLY,
)  # fmt: skip
LAW_DRAWS = Nouns(
    audited="Loss", thing="placement", measure="loss", real="draws of the law",
    one_real="draw of the law", short="law", where=_UNSERVED, counting=_SINGLY,
)  # fmt: skip
