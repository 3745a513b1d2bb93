"""What is known of language runtimes: how to tell them, and the command that shows what they do.

One TOML file each in runtimes/, every command with the source that documents it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from twdiag.model.waits import NextCommand
from twdiag.software import SoftwareFileError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

GO: Final = "go"
NATIVE: Final = "native"
_KEYS: Final = frozenset(
    {"name", "title", "executables", "mapped", "command", "own_threads", "main_runs"}
)


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """A command for a process of a runtime.

    `run` may hold {pid} (as seen from here) and {inner} (in the process's own PID namespace);
    `look` is what to look for in the output, `effect` what it does to the process, `tool` what has
    to be installed ("" nothing), `inside` whether it must run in the process's container,
    `symbols` whether it is for programs with debugging symbols (True), without (False), or both.
    """

    run: str
    look: str
    effect: str
    tool: str
    inside: bool
    source: str
    symbols: bool | None = None


@dataclass(frozen=True, slots=True)
class Runtime:
    """A language runtime: patterns of its executables and mapped libraries, and its commands.

    `own_threads` are patterns of the names of threads that run none of the program's code: they
    sleep all their lives and hold no connection.  `main_runs` says whether the main thread runs it.
    """

    name: str
    title: str
    executables: tuple[str, ...]
    mapped: tuple[str, ...]
    commands: tuple[RuntimeCommand, ...]
    own_threads: tuple[str, ...] = ()
    main_runs: bool = True

    def owns(self, thread_name: str, main: bool) -> bool:
        """Say whether a thread is the runtime's own rather than the program's."""
        if main:
            return not self.main_runs
        return any(fnmatchcase(thread_name, pattern) for pattern in self.own_threads)


@dataclass(frozen=True, slots=True)
class ProcessPlace:
    """Where a process runs: `inner` is its pid in its own PID namespace.

    `enter` is what runs a command in its container, such as ("docker", "exec", "1f2e..."); () where
    it is in none.
    """

    pid: int
    inner: int
    enter: tuple[str, ...] = ()


def recognise(executable: str, mapped: Collection[str], go: bool = False) -> Runtime:
    """Return the runtime of a process: by its mapped libraries, else by its executable.

    `executable` is a path or name, `mapped` the names of mapped files, `go` whether the executable
    holds Go's build id.  What is none of the known ones is a native program.
    """
    runtimes = {runtime.name: runtime for runtime in all_runtimes()}
    if go:
        return runtimes[GO]
    name = executable.removesuffix(" (deleted)").rpartition("/")[2]
    for runtime in runtimes.values():
        if any(fnmatchcase(file, pattern) for pattern in runtime.mapped for file in mapped):
            return runtime
    for runtime in runtimes.values():
        if any(fnmatchcase(name, pattern) for pattern in runtime.executables):
            return runtime
    return runtimes[NATIVE]


def next_commands(
    runtime: Runtime, place: ProcessPlace, symbols: bool | None = None
) -> tuple[NextCommand, ...]:
    """Return the commands to run next for a process, ready to paste, the best one first.

    `symbols` says whether the executable has debugging symbols, None where that is not known.
    """
    numbers = {"pid": str(place.pid), "inner": str(place.inner)}
    return tuple(
        NextCommand(
            _inside(_filled(command.run, numbers), place)
            if command.inside
            else _filled(command.run, numbers),
            command.look,
            _filled(command.effect, numbers),
            command.tool,
            command.source,
        )
        for command in runtime.commands
        if symbols is None or command.symbols in (None, symbols)
    )


def _filled(text: str, numbers: Mapping[str, str]) -> str:
    for key, number in numbers.items():
        text = text.replace(f"{{{key}}}", number)
    return text


def _inside(command: str, place: ProcessPlace) -> str:
    """Return a command as the container's prefix runs it; a shell is used where it needs one."""
    if not place.enter:
        return command
    prefix = " ".join(quote(word) for word in place.enter)
    if any(sign in command for sign in "&|<>;*'\""):
        return f"{prefix} sh -c {quote(command)}"
    return f"{prefix} {command}"


@cache
def all_runtimes() -> tuple[Runtime, ...]:
    """Return every known runtime, by name."""
    folder = Path(__file__).parent / "runtimes"
    files = sorted(folder.glob("*.toml"))
    return tuple(parse_runtime(path.read_text(encoding="utf-8"), path.name) for path in files)


def parse_runtime(text: str, file: str) -> Runtime:
    """Return the runtime that a TOML text describes; `file` names it in errors.

    Raises SoftwareFileError where the text is not what is expected.
    """
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: dict[str, object] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SoftwareFileError(f"{file}: not TOML: {error}") from error
    _check_keys(table, _KEYS, file)
    rows = table.get("command")
    if not isinstance(rows, list) or not rows:
        raise SoftwareFileError(f"{file}: command: expected [[command]] tables")
    return Runtime(
        _string(table, "name", file),
        _string(table, "title", file),
        _strings(table, "executables", file),
        _strings(table, "mapped", file),
        tuple(_command(row, f"{file}: command[{i}]") for i, row in enumerate(rows)),
        _strings(table, "own_threads", file) if "own_threads" in table else (),
        _flag(table, "main_runs", file) if "main_runs" in table else True,
    )


def _command(row: object, where: str) -> RuntimeCommand:
    if not isinstance(row, dict):
        raise SoftwareFileError(f"{where}: expected a table")
    _check_keys(row, {field.name for field in fields(RuntimeCommand)}, where)
    source = _string(row, "source", where)
    if not source.startswith("https://"):
        raise SoftwareFileError(f"{where}: source: {source!r} is not an https address")
    inside = _flag(row, "inside", where)
    symbols = _flag(row, "symbols", where) if "symbols" in row else None
    run, look, effect = (_string(row, key, where) for key in ("run", "look", "effect"))
    tool = row.get("tool")
    if not isinstance(tool, str):
        raise SoftwareFileError(f"{where}: tool: expected a string")
    return RuntimeCommand(run, look, effect, tool, inside, source, symbols)


def _check_keys(table: Mapping[str, object], known: Collection[str], where: str) -> None:
    unknown = sorted(table.keys() - set(known))
    if unknown:
        raise SoftwareFileError(f"{where}: {unknown[0]}: no such key")


def _string(table: Mapping[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise SoftwareFileError(f"{where}: {key}: expected a string")
    return value


def _flag(table: Mapping[str, object], key: str, where: str) -> bool:
    value = table.get(key)
    if not isinstance(value, bool):
        raise SoftwareFileError(f"{where}: {key}: expected true or false")
    return value


def _strings(table: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise SoftwareFileError(f"{where}: {key}: expected a list of strings")
    return tuple(value)
