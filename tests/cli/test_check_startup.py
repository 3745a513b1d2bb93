"""What a run of `check` loads: start-up stays short because nothing heavy comes with it."""

from __future__ import annotations

import importlib
import sys
import typing

import pytest

from tests.running import process

HEAVY = {"rich", "pyroute2", "asyncio", "pygments", "markdown_it"}
# Each of them costs a millisecond or more, and a check on a healthy host needs none.
UNNEEDED = {
    *("psutil", "json", "tomllib", "tomli", "decimal", "ctypes", "concurrent", "http", "ssl"),
    *("multiprocessing", "email", "unittest", "fcntl", "curses", "dataclasses", "shlex"),
}
SHOW = """
import io, sys
before = set(sys.modules)
import typer
base = set(sys.modules)
from twdiag.cli import run
out, sys.stdout = sys.stdout, io.StringIO()
code = run(sys.argv[1:])
sys.stdout = out
print(code, *(set(sys.modules) - base))
"""


def loaded(*words: str) -> set[str]:
    """Return the modules that a command loads beside those of typer."""
    said = process(sys.executable, "-c", SHOW, "check", *words)
    assert not said.err
    code, *modules = said.out.split()
    assert code in "012"
    return set(modules)


def roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("format", ["text", "json", "prometheus", "checkmk"])
def test_no_machine_format_loads_anything_heavy(format: str, tmp_path: object) -> None:
    modules = loaded("--format", format, "-vv", "--state", f"{tmp_path}/state")
    assert not roots(modules) & HEAVY
    assert "twdiag.render.text" not in modules
    assert not [module for module in modules if module.startswith(("twdiag.lab", "twdiag.explain"))]


def test_a_plain_check_loads_little() -> None:
    modules = loaded("--ignore", "listener-in-ephemeral-range")
    assert not roots(modules) & (HEAVY | UNNEEDED)
    others = {module for module in modules if not module.startswith("twdiag")}
    assert len(others) <= 10, sorted(others)
    assert "twdiag.cli.typer_parts" not in modules
    assert "twdiag.cli.refusals" not in modules
    assert not {m for m in modules if "namespaces" in m or m.endswith((".host", ".elsewhere"))}
    commands = {m for m in modules if m.startswith("twdiag.cli.")}
    assert not commands & {"twdiag.cli.diagnose", "twdiag.cli.lab", "twdiag.cli.explain"}
    # Where in the handshake a finding stands matters once there is one.
    assert not {m for m in modules if m.startswith("twdiag.tcp.")} - {"twdiag.tcp.states"}


def test_no_class_that_a_check_loads_is_slow_to_make() -> None:
    # 60 of typing take 3 ms more than those of twdiag.named; one dataclass takes 0.3 to 1.3 ms.
    for module in sorted(loaded()):
        if module.startswith("twdiag."):
            known = vars(importlib.import_module(module))
            assert known.get("NamedTuple") is not typing.NamedTuple, module
            assert "dataclass" not in known, module
