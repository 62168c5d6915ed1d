"""The example of a network outage runs from generator to figure, and its engine finds failures."""

from pathlib import Path
from typing import Any

import pytest

from channels import load_object


@pytest.mark.end_to_end
def test_the_example_of_a_network_outage(
    repository_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    seeded_torch: None,
) -> None:
    run: Any = load_object(f"{repository_root / 'examples' / 'network_outage.py'}:main")
    run(tmp_path, train_steps=2, n_train=100, steps=16, particles=400, runs=2, n_draws=2000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("P(joint outage), learned base law = ")
    assert "subset simulation, 2 runs of 400 particles" in lines[0]
    assert lines[1].startswith("P(joint outage), the generator = ")
    probability = float(lines[0].split("= ")[1].split(" ")[0])
    assert 1e-6 < probability < 0.1
    assert any(line.startswith("worst SINR: ") and " dB when it fails" in line for line in lines)
    assert lines[-1] == f"Figure: {tmp_path / 'placements.png'}"
    assert (tmp_path / "placements.png").read_bytes().startswith(b"\x89PNG")
