"""Guards the common names of the packages that csi_audit stands on.

`channels`, `compressors` and `reports` may just as well be a user's own file or another project's
package. This module finds out which one Python would import, and executes none of them.
"""

from importlib.util import find_spec
from pathlib import Path

SIBLINGS = ("channels", "compressors", "reports")


def check_siblings(folder: Path) -> None:
    """Check that Python finds the packages installed beside csi_audit, and not namesakes.

    Args:
        folder: The folder that holds csi_audit.
    Raises:
        ImportError: a package is missing, or another file or folder of its name comes first.
    """
    home = folder.resolve()
    for name in SIBLINGS:
        found = _locate(name)
        if found is None:
            raise ImportError(
                f"csi_audit needs its package `{name}` in {home}; none was found. "
                "Is the installation complete? Install csi-audit again.",
                name=name,
            )
        if found != home / name:
            raise ImportError(
                f"csi_audit needs its own package `{name}` from {home}; Python finds {found} "
                "first. Rename that file or folder, start Python with -P if it lies in the "
                "current folder, or keep its owner in another environment.",
                name=name,
                path=str(found),
            )


def _locate(name: str) -> Path | None:
    """The folder of the package, or the file of the plain module, that `import name` would load."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module without a spec, put into sys.modules by hand
        spec = None
    if spec is None:
        return None
    if spec.origin is None:  # a bare folder without __init__.py
        return Path(next(iter(spec.submodule_search_locations or [name]))).resolve()
    origin = Path(spec.origin).resolve()
    return origin.parent if origin.name == "__init__.py" else origin
