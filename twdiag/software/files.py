"""Read the files of this folder, strictly: every error names the file and the key."""

from __future__ import annotations

import sys
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeVar

from twdiag.software.facts import SIDES, TOPICS, Head, Idle, Software, SoftwareFileError, Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

TomlTable = dict[str, object]
T = TypeVar("T")

_STATEMENT_KEYS: Final = tuple(field.name for field in fields(Statement))
_IDLE_KEYS: Final = tuple(field.name for field in fields(Idle))
_HEAD_KEYS: Final = tuple(field.name for field in fields(Head))
_IDLE_TABLES: Final = ("idle_timeout", "keeps_idle")
_KEYS: Final = {*_HEAD_KEYS, *SIDES, *_IDLE_TABLES}
_MAY_BE_EMPTY: Final = frozenset({"setting", "default", "cost"})
_MAY_BE_ABSENT: Final = frozenset({"since", "before", "condition", "by_design"})
_NEVER: Final = "never"


def read_head(path: Path) -> Head:
    """Read what stands before the first table of a file."""
    return parse_head(path.read_text(encoding="utf-8"), path.name)


def read_software(path: Path) -> Software:
    """Read the whole file of a program."""
    return parse_software(path.read_text(encoding="utf-8"), path.name)


def parse_head(text: str, file: str) -> Head:
    """Return the head that a TOML text begins with; `file` names it in errors."""
    return _head(_toml(text.partition("\n[[")[0], file), file)


def parse_software(text: str, file: str) -> Software:
    """Return the program that a TOML text describes; `file` names it in errors."""
    table = _toml(text, file)
    _check_keys(table, _KEYS, file)
    head = _head({key: table[key] for key in _HEAD_KEYS if key in table}, file)
    idle_timeouts, keeps_idle = (_each(table, key, file, _idle) for key in _IDLE_TABLES)
    return Software(
        head,
        server=_each(table, "server", file, _statement),
        client=_each(table, "client", file, _statement),
        idle_timeouts=idle_timeouts,
        keeps_idle=keeps_idle,
    )


def _toml(text: str, file: str) -> TomlTable:
    # Parsing TOML costs start-up time that only a finding about a known program is worth.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: TomlTable = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SoftwareFileError(f"{file}: not TOML: {error}") from error
    return table


def _head(table: TomlTable, file: str) -> Head:
    _check_keys(table, _HEAD_KEYS, file)
    name = _string(table, "name", file)
    if f"{name}.toml" != file:
        raise SoftwareFileError(f"{file}: name: {name!r} is not the name of the file")
    return Head(
        name,
        _string(table, "title", file),
        _strings(table, "processes", file),
        _strings(table, "commands", file, ()),
        _strings(table, "aliases", file, ()),
    )


def _each(
    table: TomlTable, key: str, file: str, parse: Callable[[TomlTable, str], T]
) -> tuple[T, ...]:
    """Return what each [[key]] table says; there may be none."""
    rows = table.get(key, [])
    if not isinstance(rows, list):
        raise SoftwareFileError(f"{file}: {key}: expected [[{key}]] tables")
    found = []
    for index, row in enumerate(rows):
        where = f"{file}: {key}[{index}]"
        if not isinstance(row, dict):
            raise SoftwareFileError(f"{where}: expected a table")
        found.append(parse(row, where))
    return tuple(found)


def _statement(row: TomlTable, where: str) -> Statement:
    _check_keys(row, _STATEMENT_KEYS, where)
    given = (key for key in _STATEMENT_KEYS if key in row or key not in _MAY_BE_ABSENT)
    statement = Statement(**{key: _string(row, key, where) for key in given})
    if statement.topic not in TOPICS:
        raise SoftwareFileError(f"{where}: topic: {statement.topic!r} is not one of the topics")
    _check_source(statement.source, where)
    return statement


def _idle(row: TomlTable, where: str) -> Idle:
    _check_keys(row, _IDLE_KEYS, where)
    words = {
        key: _string(row, key, where)
        for key in _IDLE_KEYS
        if key != "seconds" and not (key in _MAY_BE_ABSENT and key not in row)
    }
    _check_source(words["source"], where)
    return Idle(_seconds(row, where), **words)


def _seconds(row: TomlTable, where: str) -> float | None:
    """Return a number of seconds, None for "never"."""
    value = row.get("seconds")
    if value == _NEVER:
        return None
    # A truth value is a number to Python.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise SoftwareFileError(f'{where}: seconds: expected a number, or "{_NEVER}"')
    return value


def _check_source(source: str, where: str) -> None:
    if not source.startswith("https://"):
        raise SoftwareFileError(f"{where}: source: {source!r} is not an https address")


def _check_keys(table: TomlTable, known: Collection[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise SoftwareFileError(f"{where}: {unknown[0]}: no such key")


def _string(table: TomlTable, key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise SoftwareFileError(f"{where}: {key}: expected a string")
    if not value and key not in _MAY_BE_EMPTY:
        raise SoftwareFileError(f"{where}: {key}: is empty")
    return value


def _strings(
    table: TomlTable, key: str, where: str, absent: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    value = table.get(key, absent)
    if isinstance(value, tuple):
        return value
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise SoftwareFileError(f"{where}: {key}: expected a list of strings")
    return tuple(value)
