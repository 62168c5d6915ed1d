"""Settings of `fit-base`: what is refused, and several files as one set."""

from pathlib import Path
from typing import Any

import pytest

from channels.support import CsiAuditError
from channels.unions import JoinedSource
from csi_audit.base_settings import FitBaseConfig

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "a.h5"}, r"data must be a tuple of files; got 'a\.h5'\. Write \('a\.h5',\)\."),
        ({"data": ()}, r"data must be a tuple of files; got \(\)\. Write \('channels\.h5',\)\."),
        ({"validation": "v.h5"}, r"validation must be a tuple of files; got 'v\.h5'"),
        ({"fidelity_samples": -1}, r"fidelity_samples must be at least 0; got -1\."),
        ({"patience": 0}, r"patience must be at least 1; got 0\."),
        ({"steps": 0}, r"steps must be at least 1; got 0\."),
        ({"devices": 0}, r"devices must be at least 1; got 0\."),
        ({"learning_rate": 0.0}, r"learning_rate must be positive; got 0\.0\."),
        ({"adapt": "b", "network": "unet"}, r"network must be left out with adapt, .* got 'unet'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        FitBaseConfig(**{"data": ("a.h5",), **settings})


def test_files_are_read_as_one_set(tiny: Any) -> None:
    """One stays what it is; two are joined, in order."""
    settings = FitBaseConfig(data=(str(tiny.data), str(tiny.bare)))
    alone, both = settings.read_all(settings.data[:1]), settings.read_all(settings.data)
    assert not isinstance(alone.source, JoinedSource)
    assert isinstance(both.source, JoinedSource)
    assert [Path(part.path) for part in both.source.parts] == [tiny.data, tiny.bare]
    assert len(both) == len(alone) + 60
