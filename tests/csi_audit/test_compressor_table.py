"""The table after several trainings of compressors."""

import pytest
from rich.console import Console

from csi_audit import commands
from csi_audit.printing import show_table


@pytest.mark.unit
def test_the_table_of_trainings_says_which_klt_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole names in a narrow log file; a quantised KLT is compared with nothing."""
    monkeypatch.setenv("COLUMNS", "60")
    common = {"validation_nmse_db": -6.0, "parameters": 0, "compressor": {"n_code": 96}}
    cards = {
        "top-taps-oracle-256b": {**common, "bits": 256, "klt_same_bits_nmse_db": -5.5},
        "klt-quantised-256b": {**common, "bits": 256},
    }
    show_table(Console(), commands._compressor_table(cards, {}))
    lines = capsys.readouterr().out.splitlines()
    shown = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "256b" in line]
    name = "top-taps-oracle-256b"
    words = "quantised KLT of equal bits"
    assert shown[0] == [name, "96", "256", "0", "-6.00", "-5.50", "-0.50", words]
    assert shown[1] == ["klt-quantised-256b", "96", "256", "0", "-6.00", "-", "-", "-"]
