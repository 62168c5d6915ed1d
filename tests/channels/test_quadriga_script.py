"""The script for QuaDRiGa users: its settings, its calls, and that what it saves can be read.

QuaDRiGa and MATLAB are not here, so the script is read as text and not run.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io

import channels
from channels import load_channels
from channels.opened import LABELS

SCRIPT = Path(channels.__file__).with_name("quadriga_generate.m")


@pytest.fixture(scope="module")
def code() -> str:
    """The script without its comments and line continuations."""
    lines = (line.partition("%")[0].rstrip() for line in SCRIPT.read_text().splitlines())
    return re.sub(r"\.\.\.\n\s*", "", "\n".join(line for line in lines if line))


@pytest.fixture(scope="module")
def settings(code: str) -> dict[str, float]:
    """Plain numbers that are assigned once."""
    found = re.findall(r"^(\w+)\s*=\s*([\d.e]+);$", code, flags=re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.fixture(scope="module")
def saved(code: str) -> list[str]:
    """Names of the variables in the file."""
    (call,) = re.findall(r"^save\( file, (.*) \);$", code, flags=re.MULTILINE)
    names = re.findall(r"'([^']+)'", call)
    assert names.pop() == "-v7"  # v7.3 would be slower to write, plain v6 twice as large
    return names


@pytest.mark.unit
def test_settings_are_those_of_the_project_data(settings: dict[str, float], code: str) -> None:
    assert settings == {
        "fc_hz": 2.655e9,
        "bandwidth_hz": 10e6,
        "n_sub": 32,
        "n_tx": 32,
        "n_users": 250,
        "bs_height_m": 10,
        "user_height_m": 1.5,
        "nearest_m": 10,
        "farthest_m": 200,
    }
    assert "= '3GPP_38.901_UMi';" in code  # no _LOS or _NLOS: QuaDRiGa draws


@pytest.mark.unit
@pytest.mark.parametrize(
    "call",
    [
        "s = qd_simulation_parameters;",
        "s.center_frequency = fc_hz;",
        "s.use_absolute_delays = false;",
        "qd_arrayant( 'omni' )",
        "= ( (0:n_tx-1) - (n_tx-1)/2 ) * s.wavelength/2;",  # half-wavelength row about the origin
        "qd_layout( s )",
        "l.tx_position = bs_pos.';",
        # largest distance, heights, no track: one snapshot, all users, smallest distance
        "randomize_rx_positions( farthest_m, user_height_m, user_height_m, 0, [], nearest_m )",
        "l.set_scenario( scenario )",
        "l.init_builder;",
        "gen_parameters( builder )",
        "get_channels( b )",
        ".fr( bandwidth_hz, n_sub, [], 0 )",
    ],
)
def test_calls_are_the_documented_ones(code: str, call: str) -> None:
    assert code.count(call) >= 1


@pytest.mark.unit
def test_blocks_are_closed_and_every_saved_variable_is_set(code: str, saved: list[str]) -> None:
    opened = len(re.findall(r"^\s*(?:function|for|if|while|switch)\b", code, flags=re.MULTILINE))
    assert opened == len(re.findall(r"^\s*end$", code, flags=re.MULTILINE))
    assert code.count("(") == code.count(")")
    assert code.count("[") == code.count("]")
    for name in saved:
        assert re.search(rf"\b{name}(\( [^=]*\))?\s*=[^=]|\[ .*\b{name}\b.* \] = deal", code), name


@pytest.mark.unit
def test_what_the_script_saves_can_be_read(
    saved: list[str], settings: dict[str, float], tmp_path: Path
) -> None:
    n, rng = 4, np.random.default_rng(0)
    h = rng.standard_normal((2, n, 32, 32)) * 1e-5
    file = dict.fromkeys(saved, np.ones((n, 1))) | {
        "H": (h[0] + 1j * h[1]).astype(np.complex64),
        "scenario": "3GPP_38.901_UMi",
        "fc_hz": settings["fc_hz"],
        "bandwidth_hz": settings["bandwidth_hz"],
        "subcarrier_freq_hz": np.arange(32)[None] / 32 * settings["bandwidth_hz"],
        "ant_pos_m": np.zeros((32, 3)),
        "bs_pos": np.array([[0.0, 0.0, 10.0]]),
        "ue_pos": np.zeros((n, 3)),
        "is_los": np.array([[True], [False]] * 2),
        "quadriga_version": "2.8.1-0",
    }
    scipy.io.savemat(tmp_path / "umi.mat", file)
    read = load_channels(tmp_path / "umi.mat")
    assert read.h.shape == (n, 1, 32, 32)
    assert set(LABELS) <= set(read.labels)
    assert read.label("is_los").tolist() == [True, False, True, False]
    assert read.source.scenario == "3GPP_38.901_UMi"
    grid = read.grid
    assert (grid.carrier_hz, grid.bandwidth_hz, grid.n_sub) == (2.655e9, 10e6, 32)


def test_names_and_places_are_those_of_the_project_data(
    saved: list[str], settings: dict[str, float], shared_data: Path
) -> None:
    file = shared_data / "umi_val.mat"
    theirs = {name for name, *_ in scipy.io.whosmat(file)}
    assert set(saved) == theirs - {"fro_norm"}  # the norm of H itself
    facts = scipy.io.loadmat(file, variable_names=["ant_pos_m", "bs_pos", "ue_pos", "drop_seed"])
    place = (np.arange(32) - 31 / 2) * 299792458 / settings["fc_hz"] / 2
    assert np.allclose(facts["ant_pos_m"], place[:, None] * [0, 1, 0])
    assert facts["bs_pos"].tolist() == [[0, 0, settings["bs_height_m"]]]
    r = np.hypot(*facts["ue_pos"][:, :2].T)
    assert settings["nearest_m"] <= r.min() < r.max() <= settings["farthest_m"]
    assert (facts["ue_pos"][:, 2] == settings["user_height_m"]).all()
    assert (np.unique(facts["drop_seed"], return_counts=True)[1] == settings["n_users"]).all()
