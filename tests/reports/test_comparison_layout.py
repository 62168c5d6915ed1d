"""The comparison page in a browser, by the rules of test_page_layout.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reports.comparison import ComparedLosses, compared_set, matrix_cell
from reports.comparison_page import ComparisonArrays, write_comparison
from reports.comparison_schema import ComparedCompressor, ComparisonResult
from tests.reports.test_page_layout import HOSTILE, checked, needs_browser

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def losses(names: tuple[str, ...], *, set_name: str = "users") -> ComparedLosses:
    """Lognormal distortions of 400 channels, each compressor a little worse than the last."""
    rng = np.random.default_rng(0)
    common = np.exp(0.5 * rng.standard_normal(400))
    nmse = {
        name: 0.1 * common * np.exp(0.02 * k + 0.1 * rng.standard_normal(400))
        for k, name in enumerate(names)
    }
    return ComparedLosses(
        name=set_name, kind="real", nmse=nmse, drops=np.arange(400) // 50,
        levels={"−8 dB": dict.fromkeys(names, 0.16)},
    )  # fmt: skip


def page_of(found: ComparedLosses, folder: Path) -> Path:
    result = ComparisonResult(
        created="2026-01-02T03:04:05+00:00", versions={"csi-audit": "0"}, seed=0, prob=0.99,
        thresholds=tuple(found.levels), sets=(compared_set(found),),
        compressors=tuple(
            ComparedCompressor(name=n, spec=n, sha256="ab" * 32, n_code=64 + k, trained_on="")
            for k, n in enumerate(found.names)
        ),
        matrix=tuple(
            matrix_cell(found, n).told("case 1", "trained and audited on 3GPP_38.901_UMi")
            for n in found.names
        ),
    )  # fmt: skip
    arrays = ComparisonArrays(nmse={found.name: found.nmse}, level_db=-8.0)
    return write_comparison(result, arrays, folder)


@needs_browser
def test_comparison_fits_phone_and_desk(tmp_path: Path) -> None:
    checked(page_of(losses(("crnet-16", "klt-16", "mynet")), tmp_path), pictures=True)


@needs_browser
def test_twenty_compressors_with_hostile_names_fit(tmp_path: Path) -> None:
    names = (HOSTILE, *(f"compressor number {k}" for k in range(19)))
    found = replace(losses(names), name=HOSTILE)
    page = page_of(found, tmp_path)
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    checked(page, pictures=True)


@needs_browser
def test_one_compressor_fits(tmp_path: Path) -> None:
    checked(page_of(losses(("alone",)), tmp_path), pictures=True)
