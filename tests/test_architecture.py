"""The house: imports run downward only, and heavy packages stay in their corners."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "twdiag"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room and its floor; what stands on a floor imports its own room and lower floors only.
FLOORS = {
    "errors": 0,
    "named": 0,
    "wording": 0,
    "__init__": 0,
    "tcp": 1,
    "model": 2,
    "census": 3,
    "analysis": 4,
    "software": 5,
    "sources": 6,
    "rules": 6,
    "check": 7,
    "settings": 8,
    "history": 8,
    "explain": 8,
    "lab": 8,
    "integrations": 8,
    "engine": 9,
    "render": 10,
    "cli": 11,
    "__main__": 12,
}
# The same within sources/live; the modules that stand in none of its rooms are on the ground.
LIVE_FLOORS = {"sockets": 1, "netfilter": 1, "tracing": 1, "namespaces": 2, "processes": 3}
HEAVY = {
    "rich": {"render/pieces.py", "explain", "cli/explain.py"},
    "psutil": {"sources/live/processes/owners.py", "sources/live/sockets/psutil_reader.py"},
    "pyroute2": {"sources/live/sockets/pyroute2_reader.py", "lab/network.py"},
    "typer": {"cli"},
}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax of a module."""
    return ast.parse(path.read_text())


@cache
def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Return (module, inside a function or under TYPE_CHECKING) of each import."""
    tree = tree_of(path)
    late: set[ast.AST] = set()
    for node in ast.walk(tree):
        deferred = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        deferred |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if deferred:
            late.update(ast.walk(node))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(_imported(node.module, alias.name), node in late) for alias in node.names]
    return found


def _imported(package: str, name: str) -> str:
    """Return the module that `from package import name` loads last."""
    return f"{package}.{name}" if f"{package}.{name}" in NAMES else package


def module_name(path: Path) -> str:
    """Return the dotted name of a module's file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def floor_of(module: str) -> int:
    """Return the floor of the room that a module of twdiag stands in."""
    return FLOORS[module.split(".")[1] if "." in module else "__init__"]


def test_every_module_stands_in_a_room() -> None:
    loose = {path.stem for path in PACKAGE.glob("*.py")}
    assert loose == {"__init__", "__main__", "errors", "named", "wording"}
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_downward(name: str) -> None:
    for module, _ in imports_of(NAMES[name]):
        if module not in NAMES or module.split(".")[1:2] == name.split(".")[1:2]:
            continue
        assert floor_of(module) < floor_of(name), f"{name} must not import {module}"


LIVE = "twdiag.sources.live"


def live_room(module: str) -> str:
    """Return the room of sources/live that a module stands in, "" where it is on the ground."""
    room = module.removeprefix(f"{LIVE}.").split(".")[0]
    return "" if NAMES[f"{LIVE}.{room}"].name != "__init__.py" else room


def test_every_room_of_the_live_sources_has_a_floor() -> None:
    rooms = {path.parent.name for path in NAMES[LIVE].parent.glob("*/__init__.py")}
    assert rooms == LIVE_FLOORS.keys()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(f"{LIVE}.")])
def test_imports_run_downward_among_the_live_sources(name: str) -> None:
    floor = LIVE_FLOORS.get(live_room(name), 0)
    for module, _ in imports_of(NAMES[name]):
        if module.startswith(f"{LIVE}.") and live_room(module) != live_room(name):
            below = LIVE_FLOORS.get(live_room(module), 0)
            assert below < floor, f"{name} must not import {module}"


def test_no_imports_run_in_a_circle() -> None:
    # What stands under TYPE_CHECKING counts: a reader has to follow it too.
    below = {
        name: {module for module, _ in imports_of(path) if module in NAMES} - {name}
        for name, path in NAMES.items()
    }
    while leaves := {name for name, imported in below.items() if not imported}:
        below = {name: imported - leaves for name, imported in below.items() if name not in leaves}
    assert not below, f"these import one another: {_circle(below)}"


def _circle(below: dict[str, set[str]]) -> str:
    """Return one circle among modules of which each imports another of them."""
    way = [min(below)]
    while (step := min(below[way[-1]])) not in way:
        way.append(step)
    return " -> ".join([*way[way.index(step) :], step])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_corners(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    for module, late in imports_of(path):
        allowed = HEAVY.get(module.split(".")[0])
        if allowed is None:
            continue
        assert any(place == a or place.startswith(f"{a}/") for a in allowed), (place, module)
        assert late or module.startswith("typer"), f"{place} imports {module} at its top"


def test_the_files_that_the_map_names_exist() -> None:
    root = PACKAGE.parent
    words = set(re.findall(r"`([\w./-]+(?:/|\.py))`", (root / "CONTRIBUTING.md").read_text()))
    below = (path for top in (PACKAGE, root / "tests") for path in top.rglob("*") if path.is_dir())
    homes = (root, PACKAGE, *below)
    assert words
    assert {word for word in words if not any((home / word).exists() for home in homes)} == set()


def test_each_public_class_has_a_name_of_its_own() -> None:
    # A reader who meets the name in two files must not have to ask which one is meant.
    homes: dict[str, list[str]] = {}
    for name, path in NAMES.items():
        for defined in _public_classes(ast.parse(path.read_text())):
            homes.setdefault(defined, []).append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def _public_classes(tree: ast.Module) -> list[str]:
    """Return the classes of a module, and the types that it gives a name: `Key = tuple[...]`."""
    body = [*tree.body]
    for node in tree.body:
        body += node.body if isinstance(node, ast.If) else []
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    aliases = [
        target.id
        for node in body
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and not target.id.isupper()
    ]
    return [name for name in (*classes, *aliases) if name[0].isupper()]


def test_no_class_is_a_generic_named_tuple() -> None:
    # Python 3.10 refuses it when the module is imported; mypy, told of 3.10, does not.
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                assert "NamedTuple" not in bases or len(bases) == 1, f"{path.name}: {node.name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_module_says_in_one_sentence_what_it_holds(path: Path) -> None:
    doc = ast.get_docstring(tree_of(path))
    assert doc, path
    assert doc.splitlines()[0].endswith((".", "?")), path


def loaded_by(*words: str) -> set[str]:
    """Return the top-level modules that a command has loaded when it ends."""
    code = (
        "import sys, io; from twdiag.cli import run\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\n"
        f"run({list(words)!r})\n"
        "sys.stdout = out; print('\\n'.join(m.partition('.')[0] for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("words", [("diagnose",), ("diagnose", "--json"), ("diagnose", "--brief")])
def test_a_plain_report_loads_no_heavy_package(words: tuple[str, ...]) -> None:
    # To enter another namespace takes ctypes before Python 3.12; this machine may have some.
    assert not loaded_by(*words) & {"rich", "pyroute2", "asyncio"}
    assert "ctypes" not in loaded_by(*words, "--this-netns")
