"""The settings: what they refuse, and which of them fix the figures."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from channels.run_folder import config_hash
from channels.support import CsiAuditError
from csi_audit.base_settings import FitBaseConfig
from csi_audit.configs import (
    ConvertConfig,
    DemoConfig,
    FitCompressorConfig,
    GenerateConfig,
    InspectConfig,
    ReportConfig,
    RunConfig,
)

pytestmark = pytest.mark.unit

CONFIG = RunConfig(data="users.h5", compressor=("klt-16", "crnet-16"))

# Field -> another value. Every field is here, so a new one must say on which side it stands.
OTHER: dict[str, Any] = {
    "data": "others.h5",
    "compressor": ("crnet-16", "klt-16"),
    "base": "base.safetensors",
    "n_base": 801,
    "steps": 31,
    "issgm": "klt-16",
    "n_issgm": 65,
    "issgm_steps": 101,
    "tau_quantile": 0.95,
    "tau_db": (-3.0, -5.0),
    "tail_method": "counting",
    "tail_runs": 5,
    "tail_particles": 2000,
    "tail_deepest": 1e-4,
    "tail_coef_var": 0.1,
    "tail_evaluations": 10**6,
    "tail_seconds": 60.0,
    "mean_method": "guided",
    "guided_particles": 512,
    "guided_steps": 60,
    "double_steps": True,
    "block": 101,
    "seed": 1,
    "variable": "H",
    "n_sub": 32,
    "bandwidth_hz": 1e7,
    "axes": "user,tx,sub",
    "panel": (1, 1, 32),
    "offset": 0.5,
}
FREE: dict[str, Any] = {"out": "runs/a", "device": "cpu", "batch_size": 16, "threads": 1}


def test_every_field_is_fixing_or_free() -> None:
    assert {field.name for field in fields(RunConfig)} == OTHER.keys() | FREE.keys()
    assert CONFIG.fixing().keys() == OTHER.keys()


@pytest.mark.parametrize("name", OTHER)
def test_fixing_fields_change_the_hash(name: str) -> None:
    limited = replace(CONFIG, tail_evaluations=10**7)  # tail_coef_var needs a limit
    before = limited if name == "tail_coef_var" else CONFIG
    changed = replace(before, **{name: OTHER[name]})
    assert config_hash(changed.fixing()) != config_hash(before.fixing())


@pytest.mark.parametrize("name", FREE)
def test_free_fields_do_not(name: str) -> None:
    changed = replace(CONFIG, **{name: FREE[name]})
    assert changed != CONFIG
    assert config_hash(changed.fixing()) == config_hash(CONFIG.fixing())


def test_fixing_holds_plain_values() -> None:
    fixing = CONFIG.fixing()
    assert fixing["compressor"] == ["klt-16", "crnet-16"]
    assert fixing["tau_db"] == [-3.0]
    plain = (str, int, float, list, type(None))
    assert all(isinstance(value, plain) for value in fixing.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compressor": ()}, "compressor must name at least one; got none. Example: --compressor"),
        ({"compressor": ("a", "b", "a")}, "compressor 'a' is named twice. Name each one once"),
        ({"compressor": "klt-16"}, r"must be a tuple of names; got the string .* \('klt-16',\)"),
        ({"n_base": 1}, "n_base must be at least 2; got 1"),
        ({"steps": 1}, "steps must be at least 2; got 1"),
        ({"n_issgm": 0}, "n_issgm must be at least 2; got 0"),
        ({"issgm_steps": 1}, "issgm_steps must be at least 2; got 1"),
        ({"block": 0}, "block must be at least 1; got 0"),
        ({"batch_size": -3}, "batch_size must be at least 1; got -3"),
        ({"tau_quantile": 1.0}, r"tau_quantile must lie in \(0, 1\); got 1.0. The worst 1 % is"),
        ({"tau_quantile": 0.0}, r"tau_quantile must lie in \(0, 1\); got 0.0"),
        ({"tau_quantile": float("nan")}, r"tau_quantile must lie in \(0, 1\); got nan"),
        ({"tau_db": (-3.0, 5000.0)}, r"tau_db must lie in \[-200, 200\] dB; got 5000.0"),
        ({"tau_db": (-3.0, -3.0)}, r"tau_db must hold levels that differ in two digits; got −3 dB"),
        ({"tau_db": (float("nan"),)}, r"tau_db must lie in \[-200, 200\] dB; got nan"),
        (
            {"issgm": "klt-4"},
            "issgm must name one of the audited compressors; got 'klt-4'. "
            "Choose from: klt-16, crnet-16",
        ),
    ],
)
def test_run_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        replace(CONFIG, **changes)


def test_no_fixed_threshold_is_allowed() -> None:
    assert replace(CONFIG, tau_db=()).fixing()["tau_db"] == []


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_learning_rates_are_checked(rate: float) -> None:
    message = f"learning_rate must be positive; got {rate}"
    with pytest.raises(CsiAuditError, match=message):
        FitCompressorConfig(data="users.h5", learning_rate=rate)
    with pytest.raises(CsiAuditError, match=message):
        FitBaseConfig(data=("users.h5",), learning_rate=rate)


def test_devices_are_checked() -> None:
    with pytest.raises(CsiAuditError, match="devices must be at least 1; got 0"):
        FitBaseConfig(data=("users.h5",), devices=0)


@pytest.mark.parametrize(
    "settings",
    [
        RunConfig,
        FitBaseConfig,
        FitCompressorConfig,
        DemoConfig,
        InspectConfig,
        ConvertConfig,
        GenerateConfig,
        ReportConfig,
    ],
)
def test_settings_are_frozen_keyword_only_and_described(settings: type[Any]) -> None:
    assert settings.__dataclass_params__.frozen
    for field in fields(settings):
        assert field.kw_only, field.name
        described = "".join(kind.__doc__ or "" for kind in settings.__mro__)
        assert f"        {field.name}: " in described, field.name
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepz'"):
        settings(stepz=3)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        CONFIG.steps = 3  # type: ignore[misc]
