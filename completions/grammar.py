"""The command line as data: its commands, options and arguments, and which words each takes.

Read from the typer application itself, so that completions and man pages cannot say other than it.
"""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.cli.typer_parts import Described, Parameter


class Takes(enum.Enum):
    """What a value is, so that a shell can offer some."""

    CHOICE = "choice"
    FILE = "file"
    RULE = "rule"
    STATE = "state"
    LIMIT = "limit"
    METRIC = "metric"
    PAGE = "page"
    SCENARIO = "scenario"
    COMMAND = "command"
    FREE = "free"


_KINDS: Final = {
    "FILE": Takes.FILE,
    "RULE": Takes.RULE,
    "STATE": Takes.STATE,
    "LIMIT=VALUE": Takes.LIMIT,
    "METRIC=RANGE": Takes.METRIC,
    "WORD": Takes.PAGE,
    "SCENARIO": Takes.SCENARIO,
    "COMMAND": Takes.COMMAND,
}
"""The metavar says what a value is; any other is free text."""


class Word(NamedTuple):
    """A word that can stand on the command line, and what it means."""

    name: str
    meaning: str = ""


class Value(NamedTuple):
    """What an option or an argument takes; `choices` only for Takes.CHOICE."""

    metavar: str
    kind: Takes
    choices: tuple[str, ...] = ()


class Option(NamedTuple):
    """One option; `value` is None for a flag.  `off` are the names that turn a flag off."""

    names: tuple[str, ...]
    help: str
    value: Value | None = None
    repeats: bool = False
    default: str = ""
    bounds: str = ""
    off: tuple[str, ...] = ()

    @property
    def ends(self) -> bool:
        """Whether it prints something and ends, so that nothing else goes with it."""
        return self.names[-1] in ("--help", "--version")


class Argument(NamedTuple):
    """One argument."""

    help: str
    value: Value
    required: bool


class Command(NamedTuple):
    """One command; `path` has its words after `twdiag`, none for twdiag itself."""

    path: tuple[str, ...]
    summary: str
    text: str
    epilog: str
    options: tuple[Option, ...]
    arguments: tuple[Argument, ...]
    commands: tuple[Command, ...] = ()

    @property
    def name(self) -> str:
        """The whole name, "twdiag lab run"."""
        return " ".join(("twdiag", *self.path))

    def walk(self) -> Iterator[Command]:
        """Yield this command and all below it."""
        yield self
        for command in self.commands:
            yield from command.walk()


@functools.cache
def read() -> Command:
    """Return the whole command line."""
    from twdiag.cli import application
    from twdiag.cli.typer_parts import describe

    return _command(describe(application()), ())


def with_default_command(root: Command) -> Command:
    """Return the command line with the options that go without a command: those of `diagnose`."""
    taken = {name for option in root.options for name in option.names}
    diagnose = next(command for command in root.commands if command.path == ("diagnose",))
    more = (option for option in diagnose.options if not taken.intersection(option.names))
    return root._replace(options=(*more, *root.options))


def words(kind: Takes) -> tuple[Word, ...]:
    """Return the words of a kind with their meanings; none for files and free text."""
    if kind is Takes.RULE:
        from twdiag.rules import RULES

        return tuple(Word(rule.name, rule.manual.partition("\n")[0]) for rule in RULES)
    if kind is Takes.STATE:
        from twdiag.engine.row_filter import BOUND_WORD, STATES
        from twdiag.tcp.phases import PHASES

        known = {state.name: phase.meaning for state, phase in PHASES.items()}
        known[BOUND_WORD] = "bound, neither listening nor connected"
        return tuple(Word(name, known[name]) for name in STATES)
    if kind is Takes.LIMIT:
        from twdiag.rules import LIMITS

        return tuple(Word(limit.name, limit.meaning) for limit in LIMITS)
    if kind is Takes.METRIC:
        from twdiag.check.metrics import METRICS

        return tuple(Word(metric.name, metric.meaning) for metric in METRICS)
    if kind is Takes.COMMAND:
        return tuple(Word(command.path[-1], command.summary) for command in read().commands)
    if kind is Takes.SCENARIO:
        from twdiag.lab import SCENARIOS

        return tuple(Word(scenario.name, scenario.summary) for scenario in SCENARIOS)
    if kind is Takes.PAGE:
        from twdiag.explain.library import Library
        from twdiag.rules import RULES
        from twdiag.software import all_software

        return tuple(Word(page.name, page.summary) for page in Library(RULES, all_software()).pages)
    return ()


def _command(found: Described, path: tuple[str, ...]) -> Command:
    return Command(
        path,
        found.summary,
        "\n\n".join(" ".join(part.split()) for part in found.help.split("\n\n")),
        found.epilog,
        tuple(_option(p) for p in found.parameters if p.is_option),
        tuple(_argument(p) for p in found.parameters if not p.is_option),
        tuple(_command(below, (*path, below.name)) for below in found.commands),
    )


def _option(found: Parameter) -> Option:
    return Option(
        found.names,
        found.help,
        None if found.is_flag else _value(found, found.metavar),
        found.repeats,
        found.default,
        "" if found.low is None or found.high is None else f"{found.low:g} to {found.high:g}",
        found.off,
    )


def _argument(found: Parameter) -> Argument:
    return Argument(found.help, _value(found, found.metavar.strip("[]")), found.required)


def _value(found: Parameter, metavar: str) -> Value:
    kind = Takes.CHOICE if found.choices else _KINDS.get(metavar, Takes.FREE)
    return Value(metavar, kind, found.choices)
