"""csi-audit: under what channel conditions a neural CSI compressor fails, how badly, how often.

The engine's public functions load on first use, so `import csi_audit` costs little: it imports no
training framework and no plotting library, and changes no global state. What a channel is lives in
`channels`, what is audited in `compressors`, what a person reads in `reports`.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from csi_audit._guard import check_siblings

if TYPE_CHECKING:
    from csi_audit.auditing import audit
    from csi_audit.base import load_base
    from csi_audit.base_check import check_base
    from csi_audit.base_commands import CheckBaseConfig
    from csi_audit.base_training import fit_base
    from csi_audit.comparing import compare
    from csi_audit.comparison_settings import CompareConfig
    from csi_audit.configs import RunConfig
    from csi_audit.network_audit import audit_network
    from csi_audit.network_settings import NetworkRunConfig

__all__ = [
    "CheckBaseConfig",
    "CompareConfig",
    "NetworkRunConfig",
    "RunConfig",
    "audit",
    "audit_network",
    "check_base",
    "compare",
    "fit_base",
    "load_base",
]
__version__ = "0.1.0"

check_siblings(Path(__file__).resolve().parents[1])

# Public name -> the module that defines it; the same names as in the TYPE_CHECKING block above.
_EXPORTS = {
    "CheckBaseConfig": "csi_audit.base_commands",
    "CompareConfig": "csi_audit.comparison_settings",
    "NetworkRunConfig": "csi_audit.network_settings",
    "RunConfig": "csi_audit.configs",
    "audit": "csi_audit.auditing",
    "audit_network": "csi_audit.network_audit",
    "check_base": "csi_audit.base_check",
    "compare": "csi_audit.comparing",
    "fit_base": "csi_audit.base_training",
    "load_base": "csi_audit.base",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'csi_audit' has no attribute {name!r}")
    value: object = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
