"""The settings in force: from files, the environment and flags, each with where it comes from."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import UsageError
from twdiag.model.limits import Limits, closest, nearest, parse_limit_flags
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from twdiag.model.ranges import Range

SYSTEM_FILE: Final = "/etc/twdiag.toml"
_PREFIX: Final = "TWDIAG_"
_NOT_LIMITS: Final = frozenset({"TWDIAG_CONFIG", "TWDIAG_DEBUG"})
_MOST_BYTES: Final = 1 << 20
_TABLES: Final = ("limits", "check")
_CHECK_KEYS: Final = ("warning", "critical", "ignore")
_OPTIONS: Final = frozenset({"ignore", "select", "netns", "all-netns", "format"})
"""Flags that people also try as a variable."""

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Settings(NamedTuple):
    """What files, environment and flags set.

    `warning` and `critical` are the ranges of metrics, `ignore` the rules left out by `check`, as
    the files say; `origins` tells where each range comes from; `files` what became of each file;
    `notes` which variables mean nothing.
    """

    limits: Limits
    warning: Mapping[str, Range] = _NOTHING
    critical: Mapping[str, Range] = _NOTHING
    ignore: tuple[str, ...] = ()
    origins: Mapping[tuple[str, str], str] = _NOTHING
    files: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class _File(NamedTuple):
    path: str
    text: str
    table: Mapping[str, Any]

    def where(self, tables: tuple[str, ...], key: str) -> str:
        """Return "FILE, line N" of a key, or "FILE: KEY" where the line is not found."""
        line = line_of(self.text, tables, key)
        return f"{self.path}, line {line}" if line else f"{self.path}: {'.'.join((*tables, key))}"


def load(
    config: str | None = None,
    limit_flags: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings in force.

    In rising precedence: /etc/twdiag.toml, the user's own file, the file of --config (or
    TWDIAG_CONFIG), TWDIAG_* variables, flags.  Raises UsageError, naming file and line, variable or
    flag, where anything is not understood: a setting that has no effect is worse than none.  Only a
    variable that names no limit is a note instead: others may use the prefix for their own
    (TWDIAG_VERSION of a packager), and must not silence monitoring with it.
    """
    from twdiag.rules import DEFAULTS

    settings = Settings(DEFAULTS)
    for path, required in _paths(config, environ):
        text, state = _read(path, required)
        settings = settings._replace(files=(*settings.files, (path, state)))
        if text is not None:
            settings = _applied(settings, _File(path, text, _parsed(path, text)))
    limits, notes = _from_environment(settings.limits, environ)
    limits = limits.replaced(parse_limit_flags(limit_flags), "--limit").in_order()
    return settings._replace(limits=limits, notes=notes)


def _from_environment(limits: Limits, environ: Mapping[str, str]) -> tuple[Limits, tuple[str, ...]]:
    """Return the limits with those of TWDIAG_* variables, and a note on each that means nothing."""
    notes = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _NOT_LIMITS:
            continue
        name = variable[len(_PREFIX) :].lower().replace("_", "-")
        if name in limits:
            limits = limits.replaced({name: value}, f"environment variable {variable}")
            continue
        notes.append(f"the environment variable {variable} has no effect{_meant(name, limits)}")
    return limits, tuple(notes)


def _meant(name: str, limits: Limits) -> str:
    """Return what a variable that names no limit may mean; the prefix makes none alike."""
    if name in _OPTIONS:
        return f": use --{name}"
    near = closest(name, limits)
    return f"; did you mean {_PREFIX + near.upper().replace('-', '_')!r}?" if near else ""


def _paths(config: str | None, environ: Mapping[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield (path, whether it must exist) in rising precedence."""
    yield SYSTEM_FILE, False
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):  # the XDG specification: relative paths are ignored
        home = environ.get("HOME", "")
        folder = f"{home}/.config" if home.startswith("/") else ""
    if folder:
        yield f"{folder.rstrip('/')}/twdiag.toml", False
    if config == "":  # a variable that is not set: its limits must not be dropped silently
        raise UsageError("--config '' names no file", "name a file, or leave --config out")
    chosen = config or environ.get("TWDIAG_CONFIG")
    if chosen:
        yield chosen, True


def _read(path: str, required: bool) -> tuple[str | None, str]:
    """Return (text, what became of the file); text is None where there is no such file."""
    try:
        os.stat(path)
    except OSError as error:
        # A folder that may not be entered (HOME of another user after sudo) is no setting of ours.
        if not required:
            absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
            return None, "absent" if absent else (error.strerror or "not accessible").lower()
        raise UsageError(f"{path}: {error.strerror}", "name a file that exists") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except IsADirectoryError as error:
        step = "name a file in it" if required else "move the folder away, or make it a file"
        raise UsageError(f"{path} is a folder, not a settings file", step) from error
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", "let this user read the file, or remove it"
        ) from error
    if len(raw) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES:,} bytes: no settings file")
    try:
        return raw.decode("utf-8"), "read"
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8 text") from error


def _parsed(path: str, text: str) -> dict[str, Any]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: dict[str, Any] = toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}", "see: twdiag check --help") from error
    return table


def _applied(settings: Settings, file: _File) -> Settings:
    """Return the settings with what a file sets."""
    _check_keys(file, (), file.table, _TABLES)
    limits, check = (_table(file, (), file.table, name) for name in _TABLES)
    _check_keys(file, ("check",), check, _CHECK_KEYS)
    return settings._replace(
        limits=_limits(settings.limits, file, limits),
        ignore=settings.ignore + _rules(file, check),
        **_ranges(settings, file, check),
    )


def _limits(limits: Limits, file: _File, table: Mapping[str, Any]) -> Limits:
    for name, value in table.items():
        where = file.where(("limits",), name)
        if isinstance(value, str) and not value.rstrip().endswith("%"):
            raise UsageError(
                f"{where}: {name} needs a number, not a text", _as_number(limits, name, value)
            )
        limits = limits.replaced({name: value}, where)
    return limits


def _as_number(limits: Limits, name: str, text: str) -> str:
    """Return how to write what a text in the place of a number seems to mean."""
    try:
        limits.replaced({name: text}, "")
    except UsageError as error:
        return error.next_step
    return f"write it without quotes: {name} = {text}"


def _ranges(settings: Settings, file: _File, check: Mapping[str, Any]) -> dict[str, Any]:
    from twdiag.check.thresholds import parse_threshold

    found: dict[str, Any] = {"origins": dict(settings.origins)}
    for level, before in (("warning", settings.warning), ("critical", settings.critical)):
        found[level] = dict(before)
        for name, value in _table(file, ("check",), check, level).items():
            where = file.where(("check", level), name)
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise UsageError(f"{where}: {name} needs a range", f'write {name} = "10:20"')
            metric, accepted = parse_threshold(name, str(value), where)
            found[level][metric.name] = accepted
            found["origins"][level, metric.name] = where
    return found


def _rules(file: _File, check: Mapping[str, Any]) -> tuple[str, ...]:
    from twdiag import rules

    names = check.get("ignore", [])
    where = file.where(("check",), "ignore")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: ignore needs a list of rules", 'write ignore = ["RULE"]')
    try:
        rules.choose((), names)
    except UsageError as error:
        raise UsageError(f"{where}: {error.what}", error.next_step) from error
    return tuple(names)


def _table(
    file: _File, tables: tuple[str, ...], table: Mapping[str, Any], name: str
) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        full = ".".join((*tables, name))
        raise UsageError(f"{file.where(tables, name)}: {full} is a table", f"write [{full}]")
    return value


def _check_keys(
    file: _File, tables: tuple[str, ...], table: Mapping[str, Any], known: tuple[str, ...]
) -> None:
    for key in table:
        if not tables and key in _CHECK_KEYS:
            raise UsageError(
                f"{file.where(tables, key)}: {key} belongs to the table check",
                f"put it below a line that says [check], or write check.{key}",
            )
        if key not in known:
            kind = "table" if not tables else "key"
            raise UsageError(
                f"{file.where(tables, key)}: there is no {kind} {key!r}{nearest(key, known)}",
                f"use one of {', '.join(known)}",
            )


def line_of(text: str, tables: tuple[str, ...], key: str) -> int | None:
    """Return the line that sets a key of a table or opens the table of that name, None unfound.

    tomllib keeps no positions; a key in an inline table is looked for as a word.
    """
    current: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.strip()
        if code.startswith("["):
            current = _names(code.lstrip("[").partition("]")[0])
            if current[: len(tables) + 1] == (*tables, key):
                return number
            continue
        names = current + _names(code.partition("=")[0]) if "=" in code else ()
        if names[: len(tables) + 1] == (*tables, key):
            return number
        if names and names == tables[: len(names)] and key in code.partition("=")[2]:
            return number
    return None


def _names(text: str) -> tuple[str, ...]:
    """Return the parts of a dotted key; names of twdiag contain no dots."""
    return tuple(part.strip().strip("\"'") for part in text.split("."))
