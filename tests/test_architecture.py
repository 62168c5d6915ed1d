"""The shape of the house: who imports whom, what an import costs, what is bundled."""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

# Package -> those of ours that it may import, besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "channels": set(),
    "compressors": {"channels"},
    "reports": {"channels"},
    "csi_audit": {"channels", "compressors", "reports"},
}
BUNDLED = {".h5", ".safetensors", ".npz"}
MEGABYTE = 10**6
BUDGET = {"channels": 7, "csi_audit": 5, "compressors": 11}
BUDGET_IN_ALL = 25


# --- Reading the source ---------------------------------------------------------------------------


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted module name -> file, for the four packages under `root`."""
    found = {}
    for package in MAY_IMPORT:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def walk(node: ast.AST, *, typing_too: bool) -> Iterator[ast.AST]:
    """Every node below `node`; the bodies of `if TYPE_CHECKING` only when asked for."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if typing_too or not for_types:
            yield child
            yield from walk(child, typing_too=typing_too)


def imports_of(module: str, file: Path, *, typing_too: bool) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it: `from a import b` gives `a.b`."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in walk(ast.parse(file.read_text()), typing_too=typing_too):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def forbidden_imports(root: Path) -> list[str]:
    """Imports against the rule, as "module imports name"."""
    found = []
    for module, file in modules_of(root).items():
        package = module.partition(".")[0]
        allowed = MAY_IMPORT[package] | {package}
        for name in imports_of(module, file, typing_too=True):
            top = name.partition(".")[0]
            if top in MAY_IMPORT and top not in allowed:
                found.append(f"{module} imports {name}")
    return found


def import_graph(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports when it runs."""
    modules = modules_of(root)
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, file in modules.items():
        for name in imports_of(module, file, typing_too=False):
            while name and name not in modules:  # from a.b import function -> a.b
                name = name.rpartition(".")[0]
            if name and name != module:
                graph[module].add(name)
    return graph


def find_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of imports, its first module repeated at the end; [] without any."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if circle := follow(other, [*path, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in graph if (circle := follow(module, []))), [])


def public_functions(file: Path) -> set[str]:
    """Public functions that a module itself defines."""
    body = ast.parse(file.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {n.name for n in body if isinstance(n, kinds) and not n.name.startswith("_")}


def definitions(file: Path) -> set[str]:
    """Functions and classes that a module itself defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {n.name for n in ast.parse(file.read_text()).body if isinstance(n, kinds)}


# --- The import rule ------------------------------------------------------------------------------


def test_packages_import_only_what_they_may(repository_root: Path) -> None:
    assert forbidden_imports(repository_root) == []


def test_no_circle_of_imports(repository_root: Path) -> None:
    assert find_circle(import_graph(repository_root)) == []


@pytest.fixture
def crooked_house(tmp_path: Path) -> Path:
    """Four packages that break the rule in each way an import can be written."""
    files = {
        "channels/__init__.py": "from channels.one import a",
        "channels/one.py": "def f():\n    from . import two",
        "channels/two.py": "from .one import a",
        "compressors/__init__.py": "import csi_audit.base",
        "reports/__init__.py": "if TYPE_CHECKING:\n    from compressors import x",
        "csi_audit/__init__.py": "import channels, reports",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_broken_import_rule_is_found(crooked_house: Path) -> None:
    assert forbidden_imports(crooked_house) == [
        "compressors imports csi_audit.base",
        "reports imports compressors.x",
    ]


def test_circle_of_imports_is_found(crooked_house: Path) -> None:
    circle = ["channels.one", "channels.two", "channels.one"]
    assert find_circle(import_graph(crooked_house)) == circle


# --- What an import costs -------------------------------------------------------------------------

IMPORT_ALL = """
import json, os, random, sys
import numpy, torch

def state():
    return {
        "threads": torch.get_num_threads(),
        "dtype": str(torch.get_default_dtype()),
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(numpy.random.get_state()),
        "python": str(random.getstate()),
        # scipy.io and scikit-learn set these two for OpenMP, whoever imports them.
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("KMP_")},
        "folder": os.getcwd(),
    }

before = state()
import channels, compressors, reports, csi_audit
after = state()
heavy = {"lightning", "pytorch_lightning", "matplotlib"} & set(sys.modules)
changed = [name for name in before if before[name] != after[name]]
print(json.dumps({"heavy": sorted(heavy), "changed": changed}))
"""


def test_imports_are_light_and_change_nothing(repository_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=repository_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"heavy": [], "changed": []}


# --- Names ----------------------------------------------------------------------------------------


def test_no_two_modules_share_a_public_function_name(repository_root: Path) -> None:
    homes = defaultdict(list)
    for module, file in modules_of(repository_root).items():
        for name in public_functions(file):
            homes[name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_no_module_is_named_like_a_function_of_its_package(repository_root: Path) -> None:
    modules = modules_of(repository_root)
    functions = {
        (module.partition(".")[0], name)
        for module, file in modules.items()
        for name in public_functions(file)
    }
    names = {(module.partition(".")[0], module.rpartition(".")[2]) for module in modules}
    assert names & functions == set()


def test_lazy_names_of_csi_audit_lead_to_their_definitions(repository_root: Path) -> None:
    import csi_audit

    modules = modules_of(repository_root)
    for name, module in csi_audit._EXPORTS.items():
        assert name in definitions(modules[module]), f"{module} does not define {name}"
    assert sorted(csi_audit._EXPORTS) == sorted(csi_audit.__all__)
    assert set(csi_audit.__all__) <= set(dir(csi_audit))


def test_unknown_name_of_csi_audit_is_refused() -> None:
    import csi_audit

    with pytest.raises(AttributeError, match="module 'csi_audit' has no attribute 'audits'"):
        _ = csi_audit.audits


# --- What is bundled ------------------------------------------------------------------------------


def test_bundled_files_keep_the_size_budget(repository_root: Path) -> None:
    sizes = {
        package: sum(
            file.stat().st_size
            for file in (repository_root / package).rglob("*")
            if file.suffix in BUNDLED
        )
        for package in MAY_IMPORT
    }
    over = {
        package: f"{sizes[package] / MEGABYTE:.1f} MB of {budget} MB"
        for package, budget in BUDGET.items()
        if sizes[package] > budget * MEGABYTE
    }
    assert over == {}
    assert sum(sizes.values()) <= BUDGET_IN_ALL * MEGABYTE


def test_no_text_names_a_path_of_one_machine(
    repository_root: Path, repository_files: list[Path]
) -> None:
    machine_path = re.compile(r"(?<![\w.])/(?:work|root|home|farm)/[\w.]")
    found = []
    for file in repository_files:
        try:
            text = (repository_root / file).read_text(encoding="utf-8")
        except UnicodeDecodeError:  # weights, samples, pictures
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if machine_path.search(line):
                found.append(f"{file}:{number}: {line.strip()[:100]}")
    assert found == []
