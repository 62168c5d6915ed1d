"""Where the work runs: the torch device behind a `--device` setting."""

import torch

from channels.support import CsiAuditError


def torch_device(name: str) -> torch.device:
    """The device of a setting; "auto" takes a GPU where there is one.

    Raises:
        CsiAuditError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CsiAuditError("device cuda is not available here. Choose --device auto or cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
