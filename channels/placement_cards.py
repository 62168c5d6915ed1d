"""Network cards: a YAML file that says how many users a cell network has, where they stand, and
what serves them.

    users: 5
    law: {name: hotspot, hotspots: 3, spread: 0.15}     # or uniform (the default), or street
    stations_m: [[0, 0], [100, 0], [50, 100]]           # and any other field of CellNetwork
    threshold_db: 0.0

Everything but `users` has a default, that of the class it is a field of. Lengths of a law
(`spread`, `half_width`) are in half sides of the area.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import yaml

from channels.network import CellNetwork
from channels.placements import HotspotUsers, PlacementLaw, StreetUsers, UniformUsers
from channels.support import CsiAuditError, did_you_mean

__all__ = ["DEFAULT_CARD", "PLACEMENT_LAWS", "NetworkCard", "read_network_card"]

DEFAULT_CARD = "default"
"""The word that stands for three stations, five users and the uniform law."""

PLACEMENT_LAWS: Mapping[str, type[UniformUsers] | type[HotspotUsers] | type[StreetUsers]] = {
    "uniform": UniformUsers,
    "hotspot": HotspotUsers,
    "street": StreetUsers,
}
"""The laws a card may name."""


@dataclass(frozen=True, kw_only=True)
class NetworkCard:
    """A cell network and the law of its users.

    Attributes:
        law: Of where the users stand; knows how many they are.
        network: Stations, area, propagation, and what counts as served.
    """

    law: PlacementLaw = field(default_factory=lambda: UniformUsers(n_users=5))
    network: CellNetwork = field(default_factory=CellNetwork)

    @property
    def n_users(self) -> int:
        return self.law.n_users

    def plain(self) -> dict[str, Any]:
        """All of it as plain values, defaults too: what a resumed run must share."""
        law = asdict(self.law) if is_dataclass(self.law) else {"n_users": self.n_users}
        return {"law": {"name": self.law.name, **law}, "network": _lists(asdict(self.network))}


def read_network_card(spec: str | Path) -> NetworkCard:
    """A card from its file; the word "default" is the default network (a file of that name is
    ./default).

    Raises:
        CsiAuditError: no such file, no YAML, unknown fields, or values of a wrong kind or range;
            one line that names the file and the field.
    """
    if spec == DEFAULT_CARD:
        return NetworkCard()
    path = Path(spec)
    said = _read(path)
    users = said.pop("users", None)
    if users is None:
        raise CsiAuditError(f"{path} must say how many users there are, such as users: 5.")
    try:
        law = _law(said.pop("law", "uniform"), _value(int, users, "users"))
        return NetworkCard(law=law, network=_built(CellNetwork, said, ("users", "law")))
    except CsiAuditError as error:
        raise CsiAuditError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """The fields of a YAML file."""
    if not path.is_file():
        folder = path.parent
        near = [p.name for p in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise CsiAuditError(
            f"network card {path} does not exist.{did_you_mean(path.name, near)} The word "
            f"{DEFAULT_CARD} takes three stations and five users."
        )
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{path} is no readable YAML ({reason[:200]}).") from error
    if not isinstance(said, dict):
        raise CsiAuditError(f"{path} must hold fields of a network card, such as users: 5.")
    return {str(key): value for key, value in said.items()}


def _law(said: Any, n_users: int) -> PlacementLaw:
    """The law by its name alone, or with its options."""
    options = {"name": said} if isinstance(said, str) else said
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise CsiAuditError(
            f"law must be {', '.join(PLACEMENT_LAWS)}, or such a name with options: "
            f"{{name: hotspot, spread: 0.1}}; got {said!r}."
        )
    name = options["name"]
    if name not in PLACEMENT_LAWS:
        hint = did_you_mean(name, PLACEMENT_LAWS)
        raise CsiAuditError(f"law must be a known one; got {name!r}.{hint}")
    rest = {key: value for key, value in options.items() if key != "name"}
    if "n_users" in rest:
        raise CsiAuditError("law must leave the number of users to users; it has n_users.")
    return cast("PlacementLaw", _built(PLACEMENT_LAWS[name], rest, given={"n_users": n_users}))


# --- Values by the annotations of a dataclass -----------------------------------------------------


def _built(
    cls: type[Any],
    said: Mapping[str, Any],
    others: tuple[str, ...] = (),
    given: Mapping[str, Any] | None = None,
) -> Any:
    """A dataclass from plain values; `others` are known besides its fields, `given` are set."""
    kinds, fixed = get_type_hints(cls), dict(given or {})
    known = [item.name for item in fields(cls) if item.name not in fixed]
    for key in said:
        if key not in known:
            hint = did_you_mean(str(key), [*known, *others])
            raise CsiAuditError(f"there is no field {key!r}.{hint}")
    return cls(**fixed, **{key: _value(kinds[key], value, key) for key, value in said.items()})


def _value(kind: Any, value: Any, name: str) -> Any:
    """A value of YAML as the annotated type.

    Raises:
        CsiAuditError: it is none of that type.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _of_union(parts, value, name)
    if origin is Literal and isinstance(value, str):
        return value  # which one is the class's to say
    if origin is tuple and isinstance(value, list | tuple):
        inner = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(inner) == len(value):
            return tuple(_value(k, v, name) for k, v in zip(inner, value, strict=True))
    if is_dataclass(kind) and isinstance(value, dict):
        return _built(cast("type[Any]", kind), value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is float and (number := _number(value)) is not None:
        return number
    raise CsiAuditError(f"{name} must be {_words(kind)}; got {value!r}.")


def _of_union(parts: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in parts:
        return None
    kinds = [part for part in parts if part is not type(None)]
    fitting = [k for k in kinds if isinstance(value, dict) == is_dataclass(k)]
    if isinstance(value, list | tuple):
        fitting = [k for k in kinds if get_origin(k) is tuple]
    return _value((fitting or kinds)[0], value, name)


def _number(value: Any) -> float | None:
    """A number, or text that is one: YAML 1.1 takes 1e-7 as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _words(kind: Any) -> str:
    """A type in words."""
    parts = [part for part in get_args(kind) if part not in (type(None), Ellipsis)]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(parts)}"
    if get_origin(kind) is tuple:
        if get_origin(parts[0]) is tuple:
            return "a list of pairs [x, y]"
        return "a list of numbers" if Ellipsis in get_args(kind) else f"{len(parts)} numbers"
    if is_dataclass(kind):
        names = ", ".join(item.name for item in fields(cast("type[Any]", kind)))
        return f"its fields in braces ({names})"
    return "a whole number" if kind is int else "a number"


def _lists(value: Any) -> Any:
    """Tuples as lists, as YAML and JSON hold them."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value
