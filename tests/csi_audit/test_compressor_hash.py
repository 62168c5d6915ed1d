"""A user's own compressor is another one once any number of it is another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors import load_compressor
from csi_audit.compressor_hash import code_sha256, held_numbers

pytestmark = pytest.mark.unit


class Plain:
    """No module: holds whatever a test gives it."""

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


def linear(value: float) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


class Outer(nn.Module):
    """A module with a tensor that is in no state_dict."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(linear(1.0))
        self.inner[0].table = torch.tensor([value])


MAKERS: dict[str, Callable[[float], object]] = {
    "module": lambda v: Plain(net=linear(v)),
    "tensor": lambda v: Plain(basis=torch.tensor([v])),
    "half": lambda v: Plain(basis=torch.tensor([v], dtype=torch.bfloat16)),
    "complex": lambda v: Plain(basis=torch.tensor([1j * v]).conj()),
    "no axis": lambda v: Plain(basis=torch.tensor(v)),
    "array": lambda v: Plain(basis=np.array([v])),
    "scalar": lambda v: Plain(gain=v),
    "list": lambda v: Plain(nets=[linear(1.0), (linear(v),)]),
    "mapping": lambda v: Plain(state={"a": {"w": torch.tensor([v])}}),
    "part": lambda v: Plain(encoder=Plain(net=linear(v))),
    "module itself": linear,
    "tensor in a module": Outer,
}


@pytest.mark.parametrize("name", MAKERS)
def test_other_numbers_are_another_compressor(name: str) -> None:
    make = MAKERS[name]
    assert code_sha256(make(1.0)) == code_sha256(make(1.0))
    assert code_sha256(make(1.0)) != code_sha256(make(2.0))


def test_names_types_and_shapes_count() -> None:
    flat, tall = torch.zeros(4), torch.zeros(2, 2)
    made = [Plain(a=flat), Plain(b=flat), Plain(a=tall), Plain(a=flat.int()), Plain(a=0.0)]
    assert len({code_sha256(one) for one in made}) == len(made)


def test_a_circle_ends() -> None:
    one, other = Plain(gain=1.0), Plain(gain=2.0)
    one.other, other.other = other, one  # type: ignore[attr-defined]
    assert [name for name, _ in held_numbers(one)] == [".gain", ".other.gain"]


def test_numbers_of_the_class_and_the_file_count(tmp_path: Path) -> None:
    text = (
        "from pathlib import Path\nimport torch\nfrom channels import Convention\n"
        f"READ = torch.load({str(tmp_path / 'w.pth')!r})\n{{0}}\n\n"
        "class Mine:\n    n_code, convention = 2, Convention(event_shape=(2, 8, 8))\n    {1}\n"
        "    def encode(self, y):\n        return y\n\n    decode = bits = encode\n"
    )
    for top, inside in (("TABLE = READ", "pass"), ("", "table = READ")):
        path = tmp_path / "mine.py"
        path.write_text(text.format(top, inside))
        found = []
        for value in (1.0, 1.0, 2.0):
            torch.save(torch.tensor([value]), tmp_path / "w.pth")
            found.append(code_sha256(load_compressor(f"{path}:Mine").compressor))
        assert found[0] == found[1] != found[2]
