"""Compressors that are fitted to a number of bits, by name: fit one, build one again."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from channels.convention import Convention
from channels.support import CsiAuditError, did_you_mean
from compressors.beam_codebook import BeamCodebook
from compressors.neural import CompressorNetwork
from compressors.quantised_klt import QuantisedKlt
from compressors.top_taps import TopTaps

BIT_MATCHED: dict[str, type[QuantisedKlt] | type[TopTaps] | type[BeamCodebook]] = {
    "klt-quantised": QuantisedKlt,
    "top-taps": TopTaps,
    "top-taps-oracle": TopTaps,
    "beam-codebook": BeamCodebook,
}


def fit_to_bits(
    arch: str, x: Tensor, bits: int, *, n_code: int | None = None
) -> QuantisedKlt | TopTaps | BeamCodebook:
    """The compressor of at most `bits` bits a codeword, fitted to training channels.

    Args:
        arch: A name of `BIT_MATCHED`.
        x: Training channels, audit space (N, 2 n_rx, n_tx, n_delay).
        bits: Budget of a codeword.
        n_code: Real code numbers at most; only the KLT has such a limit.
    Raises:
        CsiAuditError: unknown name, n_code for another than the KLT, or what its class refuses.
    """
    _check_name(arch)
    if arch == "klt-quantised":
        return QuantisedKlt.for_bits(x, bits, n_code=n_code)
    if n_code is not None:
        raise CsiAuditError(
            f"n_code must be left out for {arch}, whose bits decide its length; got {n_code}."
        )
    if arch == "beam-codebook":
        return BeamCodebook.for_bits(x, bits)
    return TopTaps.for_bits(x, bits, oracle=arch == "top-taps-oracle")


def build_bit_matched(
    arch: str, options: Mapping[str, Any], *, event_shape: tuple[int, int, int]
) -> CompressorNetwork:
    """The compressor that a fitted one's `options` describe, ready for its weights.

    Args:
        arch: A name of `BIT_MATCHED`.
        options: Of the fitted one.
        event_shape: (2 n_rx, n_tx, n_delay) of the channels.
    Raises:
        CsiAuditError: unknown name, or options its class refuses.
    """
    _check_name(arch)
    pairs, n_tx, n_delay = event_shape
    shape: dict[str, Any] = {"n_tx": n_tx, "n_delay": n_delay}
    if arch != "beam-codebook":
        shape["n_rx"] = pairs // 2
    convention = Convention(event_shape=event_shape)
    return BIT_MATCHED[arch](**options, **shape, convention=convention)


def _check_name(arch: str) -> None:
    if arch not in BIT_MATCHED:
        raise CsiAuditError(
            f"arch must be fitted to bits; got {arch!r}.{did_you_mean(arch, BIT_MATCHED)}"
        )
