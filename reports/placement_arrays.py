"""The placements of users that the report of a cell network is drawn from, in one container.

The engine fills a `PlacementArrays` and keeps it in `samples.h5` by way of `to_flat`/`from_flat`,
as it does a `ReportArrays` of channels. Nothing here draws.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from channels.network import CellNetwork
from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError
from reports.flat_arrays import (
    DAMAGES,
    coded_text,
    damaged_arrays,
    finite_array,
    flat_mapping,
    read_mapping,
    text_codes,
)

Array = npt.NDArray[Any]

_MAPPINGS = ("losses_base", "losses_real", "log_l", "features_base", "features_real")
_REACH = 1 + 1e-5  # rounding of a position on the rim


@dataclass(frozen=True, kw_only=True)
class FailurePlacements:
    """Placements of p(x | L > tau) for one loss; all of them fail.

    Attributes:
        x: Users in the square [-1, 1]^2, (n, n_users, 2).
        log_w: Log weight of each, (n,); -inf is legal.
        clusters: What is independent only as a whole, such as the run of a particle, (n,); None
            where each placement is its own.
    """

    x: Array
    log_w: Array
    clusters: Array | None = None

    def __post_init__(self) -> None:
        for name, values in (("log_w", self.log_w), ("clusters", self.clusters)):
            if values is not None and values.shape != (len(self.x),):
                raise ValueError(f"{name} must be ({len(self.x)},); got {values.shape}.")

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True)
class PlacementArrays:
    """What modes are found in and figures drawn from. Mappings are by name of the loss, or feature.

    Attributes:
        network: That the users stand in.
        x_base: Samples of the base law, users in the square [-1, 1]^2, (n_base, n_users, 2).
        log_w: Log weight of each under the base law, zeros for plain draws, (n_base,).
        x_real: Real placements, or draws of the law itself, (n_real, n_users, 2); may be empty.
        losses_base: L of every base sample, (n_base,).
        losses_real: L of every real placement, (n_real,).
        log_l: Log importance weight of every base sample (q is proportional to l p), (n_base,).
        features_base: As `PlacementDomain.features` gives them, (n_base,).
        features_real: The same, (n_real,).
        failures: Samples of the failure law at `tau`, for losses that have one.
        tau: Threshold of each loss at which modes are looked for, in its own unit.
    """

    network: CellNetwork
    x_base: Array
    log_w: Array
    x_real: Array
    losses_base: Mapping[str, Array] = field(default_factory=dict)
    losses_real: Mapping[str, Array] = field(default_factory=dict)
    log_l: Mapping[str, Array] = field(default_factory=dict)
    features_base: Mapping[str, Array] = field(default_factory=dict)
    features_real: Mapping[str, Array] = field(default_factory=dict)
    failures: Mapping[str, FailurePlacements] = field(default_factory=dict)
    tau: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not fit together, in one line that names it."""
        n_users = self.n_users
        others = {"x_real": self.x_real}
        others |= {f"failures[{name}].x": found.x for name, found in self.failures.items()}
        for name, x in {"x_base": self.x_base, **others}.items():
            if x.ndim != 3 or x.shape[1:] != (n_users, 2):
                raise ValueError(f"{name} must be (n, {n_users}, 2); got {x.shape}.")
            if len(x) and not (np.abs(x) <= _REACH).all():
                raise ValueError(f"{name} must lie in [-1, 1]. Are these metres?")
        sizes: dict[str, tuple[int, Mapping[str, Array]]] = {
            "log_w": (len(self.x_base), {"": self.log_w}),
            **{key: (len(self.x_real if key.endswith("real") else self.x_base), getattr(self, key))
               for key in _MAPPINGS},
        }  # fmt: skip
        for key, (n, values) in sizes.items():
            for name, value in values.items():
                if value.shape != (n,):
                    what = f"{key}[{name}]" if name else key
                    raise ValueError(f"{what} must be ({n},); got {value.shape}.")

    @property
    def n_users(self) -> int:
        """Users of a placement."""
        return int(self.x_base.shape[1])

    def to_flat(self) -> dict[str, Array]:
        """Arrays by slash-separated path, for HDF5 groups: see `reports.flat_arrays`.

        The network goes as the JSON text of its fields, in bytes.
        """
        flat = {"network": text_codes([json.dumps(asdict(self.network))]),
                "x_base": self.x_base, "log_w": self.log_w, "x_real": self.x_real}  # fmt: skip
        for key in _MAPPINGS:
            flat |= flat_mapping(key, getattr(self, key))
        flat |= flat_mapping("tau", self.tau)
        flat["failures/names"] = text_codes(list(self.failures))
        for i, found in enumerate(self.failures.values()):
            flat |= {f"failures/x/{i}": found.x, f"failures/log_w/{i}": found.log_w}
            if found.clusters is not None:
                flat[f"failures/clusters/{i}"] = found.clusters
        return flat

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> "PlacementArrays":
        """Inverse of `to_flat`; values may be h5py datasets.

        Raises:
            CsiAuditError: the arrays are not what `to_flat` gives: an entry is missing, something
                is no number or not finite, or shapes do not fit.
        """
        try:
            data = {key: np.asarray(value) for key, value in flat.items()}
            missing = [key for key in ("network", "x_base", "log_w", "x_real") if key not in data]
            if missing:
                raise KeyError(", ".join(missing))
            return cls(**_read_fields(data))
        except (*DAMAGES, CsiAuditError) as error:
            raise damaged_arrays(error) from error


def _read_fields(data: Mapping[str, Array]) -> dict[str, Any]:
    """Arguments of `PlacementArrays` from its flat form."""
    real = data["x_real"]
    found: dict[str, Any] = {
        "network": _read_network(coded_text(data["network"])[0]),
        "x_base": finite_array("x_base", data["x_base"], ndim=3),
        "log_w": finite_array("log_w", data["log_w"], ndim=1, log=True),
        "x_real": finite_array("x_real", real, ndim=3) if real.size else real,
    }
    for key in _MAPPINGS:
        found[key] = read_mapping(data, key, ndim=1, log=key == "log_l")
    found["tau"] = {name: float(v) for name, v in read_mapping(data, "tau", ndim=0).items()}
    names = coded_text(data["failures/names"]) if "failures/names" in data else []
    found["failures"] = {name: _read_failures(data, i) for i, name in enumerate(names)}
    return found


def _read_failures(data: Mapping[str, Array], i: int) -> FailurePlacements:
    clusters = data.get(f"failures/clusters/{i}")
    return FailurePlacements(
        x=finite_array("failures", data[f"failures/x/{i}"], ndim=3),
        log_w=finite_array("failures", data[f"failures/log_w/{i}"], ndim=1, log=True),
        clusters=None if clusters is None else finite_array("failures", clusters, ndim=1),
    )


def _read_network(text: str) -> CellNetwork:
    """The network of its JSON text."""
    plain: dict[str, Any] = json.loads(text)
    shadowing, pattern = plain.pop("shadowing"), plain.pop("pattern")
    return CellNetwork(
        **plain,
        shadowing=None if shadowing is None else Shadowing(**shadowing),
        pattern=None if pattern is None else SectorPattern(**pattern),
    )
