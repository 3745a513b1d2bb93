"""The house: imports run downward only, and heavy packages stay in their corners."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "twdiag"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import itself and what stands to its right.
LAYERS = {
    "__main__": {"cli"},
    "cli": {"engine", "lab", "explain", "render", "sources", "rules", "software", "analysis"},
    "engine": {"sources", "analysis"},
    "lab": set(),
    "explain": {"software"},
    "render": {"analysis"},
    "sources": set(),
    "analysis": set(),
    "rules": {"software"},
    "software": set(),
}
HEAVY = {
    "rich": {"render/text.py", "explain", "cli/explain.py"},
    "psutil": {"sources/owners.py", "sources/psutil_reader.py"},
    "pyroute2": {"sources/pyroute2_reader.py", "lab/network.py"},
    "typer": {"cli"},
}


def room_of(path: Path) -> str:
    """Return the subpackage of a module, or its own name at the top level."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Return (module, inside a function or under TYPE_CHECKING) of each import."""
    tree = ast.parse(path.read_text())
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
            whole = node.module == "twdiag"
            names = [f"twdiag.{a.name}" for a in node.names] if whole else [node.module]
            found += [(name, node in late) for name in names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    room = room_of(path)
    for module, _ in imports_of(path):
        if not module.startswith("twdiag."):
            continue
        other = module.split(".")[1]
        if other == room or other not in LAYERS:
            continue
        assert other in LAYERS.get(room, set()), f"{room} must not import {module}"


def test_the_lower_modules_import_nothing_above_them() -> None:
    below = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    for name in below:
        for module, _ in imports_of(PACKAGE / f"{name}.py"):
            if module.startswith("twdiag."):
                assert module.split(".")[1] in below | {"diagram", "software"}, (name, module)
    assert not [m for m, _ in imports_of(PACKAGE / "tcp.py") if m.startswith("twdiag")]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_in_their_corners(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    for module, late in imports_of(path):
        allowed = HEAVY.get(module.split(".")[0])
        if allowed is None:
            continue
        assert any(place == a or place.startswith(f"{a}/") for a in allowed), (place, module)
        assert late or module.startswith("typer"), f"{place} imports {module} at its top"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_module_says_in_one_sentence_what_it_holds(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text()))
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
    assert not loaded_by(*words) & {"rich", "pyroute2", "asyncio", "ctypes"}
