"""The command line as data: its commands, options and arguments, and which words each takes.

Read from the typer application itself, so that completions and man pages cannot say other than it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(enum.Enum):
    """What a value is, so that a shell can offer some."""

    CHOICE = "choice"
    FILE = "file"
    RULE = "rule"
    LIMIT = "limit"
    METRIC = "metric"
    PAGE = "page"
    SCENARIO = "scenario"
    FREE = "free"


_KINDS: Final = {
    "FILE": Kind.FILE,
    "RULE": Kind.RULE,
    "LIMIT=VALUE": Kind.LIMIT,
    "METRIC=RANGE": Kind.METRIC,
    "WORD": Kind.PAGE,
    "SCENARIO": Kind.SCENARIO,
}
"""The metavar says what a value is; any other is free text."""


class Word(NamedTuple):
    """A word that can stand on the command line, and what it means."""

    name: str
    meaning: str = ""


class Value(NamedTuple):
    """What an option or an argument takes; `choices` only for Kind.CHOICE."""

    metavar: str
    kind: Kind
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


def read() -> Command:
    """Return the whole command line."""
    import typer

    from twdiag.cli import application

    return _command(typer.main.get_command(application()), ())


def words(kind: Kind) -> tuple[Word, ...]:
    """Return the words of a kind with their meanings; none for files and free text."""
    if kind is Kind.RULE:
        from twdiag.rules import RULES

        return tuple(Word(rule.name, rule.manual.partition("\n")[0]) for rule in RULES)
    if kind is Kind.LIMIT:
        from twdiag.rules import LIMITS

        return tuple(Word(limit.name, limit.meaning) for limit in LIMITS)
    if kind is Kind.METRIC:
        from twdiag.check.metrics import METRICS

        return tuple(Word(metric.name, metric.meaning) for metric in METRICS)
    if kind is Kind.SCENARIO:
        from twdiag.lab import SCENARIOS

        return tuple(Word(scenario.name, scenario.summary) for scenario in SCENARIOS)
    if kind is Kind.PAGE:
        from twdiag.explain.library import Library
        from twdiag.rules import RULES
        from twdiag.software import all_software

        return tuple(Word(page.name, page.summary) for page in Library(RULES, all_software()).pages)
    return ()


def _command(found: Any, path: tuple[str, ...], parent: Any = None) -> Command:
    # typer's own classes of commands and parameters are private, hence Any.
    context = found.make_context(
        path[-1] if path else "twdiag", [], parent=parent, resilient_parsing=True
    )
    parameters = [p for p in found.get_params(context) if not p.hidden]
    return Command(
        path,
        found.get_short_help_str(1000),
        "\n\n".join(" ".join(part.split()) for part in (found.help or "").split("\n\n")),
        (found.epilog or "").replace("\b\n", ""),
        tuple(_option(p) for p in parameters if p.param_type_name == "option"),
        tuple(_argument(p) for p in parameters if p.param_type_name == "argument"),
        tuple(
            _command(below, (*path, name), context)
            for name, below in getattr(found, "commands", {}).items()
            if not below.hidden
        ),
    )


def _option(found: Any) -> Option:
    is_flag = found.is_flag or found.count
    default = getattr(found.default, "value", found.default)
    shown = found.show_default and not is_flag and default is not None
    return Option(
        tuple(sorted(found.opts, key=len)),
        found.help or "",
        None if is_flag else _value(found, found.metavar or found.name.upper()),
        bool(found.multiple or found.count),
        f"{default:g}" if shown and isinstance(default, float) else str(default) if shown else "",
        _bounds(found.type),
        tuple(found.secondary_opts),
    )


def _argument(found: Any) -> Argument:
    metavar = (found.metavar or found.name.upper()).strip("[]")
    return Argument(found.help or "", _value(found, metavar), bool(found.required))


def _value(found: Any, metavar: str) -> Value:
    choices = tuple(getattr(choice, "value", choice) for choice in _choices(found.type))
    return Value(metavar, Kind.CHOICE if choices else _KINDS.get(metavar, Kind.FREE), choices)


def _choices(kind: Any) -> tuple[Any, ...]:
    return tuple(getattr(kind, "choices", ()))


def _bounds(kind: Any) -> str:
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    return "" if low is None or high is None else f"{low:g} to {high:g}"
