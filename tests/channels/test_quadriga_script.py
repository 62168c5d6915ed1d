"""The script for QuaDRiGa users: its settings, its calls, and that what it saves can be read.

QuaDRiGa and MATLAB are not here, so the script is read as text and not run.
"""

import re
from collections.abc import Mapping
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


def computed(code: str, target: str, known: Mapping[str, float]) -> np.ndarray:
    """What the script's own line `target = ...;` gives, its names standing for `known` numbers."""
    (line,) = re.findall(rf"^{re.escape(target)} = (.*);$", code, flags=re.MULTILINE)
    for name in sorted(known, key=len, reverse=True):
        line = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", repr(known[name]), line)
    line = re.sub(r"\(\s*([^():]+):([^():]+?)\s*\)", r"arange(\1, \2 + 1)", line)  # last included
    return np.asarray(eval(line, {"__builtins__": {}, "arange": np.arange}), dtype=float)


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
    "statement",
    [
        "s = qd_simulation_parameters;",
        "s.center_frequency = fc_hz;",
        "s.use_absolute_delays = false;",
        "bs_array = qd_arrayant( 'omni' );",
        "bs_array.center_frequency = fc_hz;",
        "bs_array.no_elements = n_tx;",
        "ant_pos_m = bs_array.element_position.';",
        "quadriga_version = s.version;",
        "set_seed( seed );",
        "l = qd_layout( s );",
        "l.tx_position = bs_pos.';",
        "l.tx_array = bs_array;",
        "l.no_rx = n_users;",
        "l.rx_array = qd_arrayant( 'omni' );",
        # largest distance, heights, no track: one snapshot, all users, smallest distance
        "l.randomize_rx_positions( farthest_m, user_height_m, user_height_m, 0, [], nearest_m );",
        "l.set_scenario( scenario );",
        "builder = l.init_builder;",
        "gen_parameters( builder );",
        "channel = get_channels( b );",
        "H( row,:,: ) = single( channel( 1,k ).fr( bandwidth_hz, n_sub, [], 0 ) );",
    ],
)
def test_calls_are_the_documented_ones(code: str, statement: str) -> None:
    assert [line.strip() for line in code.splitlines()].count(statement) == 1


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "times"),
    [("qd_", 4), (".fr(", 1), ("get_channels", 1), ("gen_parameters", 1), ("init_builder", 1),
     ("randomize_rx_positions", 1), ("set_scenario", 1), ("element_position", 2),
     ("use_absolute_delays", 1), ("tx_array", 1), ("no_elements", 1)],
)  # fmt: skip
def test_nothing_is_called_or_set_twice(code: str, name: str, times: int) -> None:
    assert code.count(name) == times


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
    code: str, saved: list[str], settings: dict[str, float], shared_data: Path
) -> None:
    file = shared_data / "umi_val.mat"
    theirs = {name for name, *_ in scipy.io.whosmat(file)}
    assert set(saved) == theirs - {"fro_norm"}  # the norm of H itself
    facts = scipy.io.loadmat(
        file,
        variable_names=["ant_pos_m", "bs_pos", "ue_pos", "drop_seed", "subcarrier_freq_hz"],
    )
    known = {**settings, "s.wavelength": 299792458 / settings["fc_hz"]}
    place = computed(code, "bs_array.element_position( 2,: )", known)  # row 2: y
    assert place.sum() == pytest.approx(0)
    assert np.allclose(facts["ant_pos_m"], place[:, None] * [0, 1, 0], atol=1e-12)
    tones = computed(code, "subcarrier_freq_hz", known)
    assert np.allclose(np.ravel(facts["subcarrier_freq_hz"]), tones)
    assert np.allclose(np.ravel(facts["bs_pos"]), computed(code, "bs_pos", known))
    r = np.hypot(*facts["ue_pos"][:, :2].T)
    assert settings["nearest_m"] <= r.min() < r.max() <= settings["farthest_m"]
    assert (facts["ue_pos"][:, 2] == settings["user_height_m"]).all()
    assert (np.unique(facts["drop_seed"], return_counts=True)[1] == settings["n_users"]).all()
