"""What is known of server programs: one TOML file each, every statement with its source."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

from twdiag.errors import TwdiagError

TOPICS: Final = frozenset(
    {"closes-first", "keep-alive", "pool", "close-wait", "accept-queue", "restart"}
)
"""What a statement can be about."""

SIDES: Final = ("server", "client")
"""The two parts a program plays: it accepts connections, or it makes them."""

_MAY_BE_EMPTY: Final = frozenset({"setting", "default", "cost"})


class SoftwareFileError(TwdiagError):
    """A file of this folder is not what the loader expects: a mistake in twdiag itself."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One verified fact about a program.

    `setting` decides it and `default` is its value as shipped, both empty where there is none;
    `change` is what to write where; `cost` is what that costs; `source` is where it is documented.
    """

    text: str
    setting: str
    default: str
    change: str
    cost: str
    source: str
    topic: str


@dataclass(frozen=True, slots=True)
class Software:
    """A program, the process names it shows and what is known of its two sides.

    `processes` are patterns as in fnmatch(3); empty where no process name tells the program.
    """

    name: str
    title: str
    processes: tuple[str, ...]
    server: tuple[Statement, ...]
    client: tuple[Statement, ...]

    def advice(self, side: str, topic: str) -> tuple[Statement, ...]:
        """Return the statements about one topic of one side, most useful first."""
        if side not in SIDES or topic not in TOPICS:
            raise ValueError(f"no such side or topic: {side!r}, {topic!r}")
        statements = self.server if side == "server" else self.client
        return tuple(s for s in statements if s.topic == topic)


def find(process_name: str) -> Software | None:
    """Return the program that a process name means, None where the name does not tell."""
    for software in all_software():
        if any(fnmatchcase(process_name, pattern) for pattern in software.processes):
            return software
    return None


@cache
def all_software() -> tuple[Software, ...]:
    """Return every known program, by name."""
    return tuple(read_software(path) for path in sorted(Path(__file__).parent.glob("*.toml")))


def read_software(path: Path) -> Software:
    """Read the file of one program."""
    return parse_software(path.read_text(encoding="utf-8"), path.name)


def parse_software(text: str, file: str) -> Software:
    """Return the program that a TOML text describes; `file` names it in errors."""
    # Parsing TOML costs start-up time that only a finding about a known program is worth.
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: dict[str, object] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SoftwareFileError(f"{file}: not TOML: {error}") from error
    _check_keys(table, {"name", "title", "processes", *SIDES}, file)
    return Software(
        name=_string(table, "name", file),
        title=_string(table, "title", file),
        processes=_strings(table, "processes", file),
        server=_statements(table, "server", file),
        client=_statements(table, "client", file),
    )


def _statements(table: dict[str, object], side: str, file: str) -> tuple[Statement, ...]:
    rows = table.get(side, [])
    if not isinstance(rows, list):
        raise SoftwareFileError(f"{file}: {side}: expected [[{side}]] tables")
    return tuple(_statement(row, f"{file}: {side}[{i}]") for i, row in enumerate(rows))


def _statement(row: object, where: str) -> Statement:
    if not isinstance(row, dict):
        raise SoftwareFileError(f"{where}: expected a table")
    keys = [field.name for field in fields(Statement)]
    _check_keys(row, set(keys), where)
    statement = Statement(**{key: _string(row, key, where) for key in keys})
    if statement.topic not in TOPICS:
        raise SoftwareFileError(f"{where}: topic: {statement.topic!r} is not one of the topics")
    if not statement.source.startswith("https://"):
        raise SoftwareFileError(f"{where}: source: {statement.source!r} is not an https address")
    return statement


def _check_keys(table: dict[str, object], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise SoftwareFileError(f"{where}: {unknown[0]}: no such key")


def _string(table: dict[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise SoftwareFileError(f"{where}: {key}: expected a string")
    if not value and key not in _MAY_BE_EMPTY:
        raise SoftwareFileError(f"{where}: {key}: is empty")
    return value


def _strings(table: dict[str, object], key: str, where: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise SoftwareFileError(f"{where}: {key}: expected a list of strings")
    return tuple(value)
