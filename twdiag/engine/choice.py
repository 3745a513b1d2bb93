"""What is judged, and how: the rules and limits that flags and settings leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag import rules
from twdiag.engine.look import Question
from twdiag.errors import UsageError
from twdiag.model.snapshot import Gap
from twdiag.settings import config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twdiag.model.limits import Limits
    from twdiag.rules.rule import Rule

_MOST_NAMED: Final = 2
"""Rules that are named one by one where the others are left out: the status line is short."""


@dataclass(frozen=True)
class Asked:
    """What a report is about and how it judges, in the words of the command line."""

    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    config: str | None = None


class Chosen(NamedTuple):
    """What to look at; `notes` is worth to know of the settings, `left_out` of the rules."""

    question: Question
    notes: tuple[str, ...]
    left_out: list[Gap]


def choice_of(asked: Asked) -> Chosen:
    """Return what to look at; raises UsageError where that makes no sense."""
    settings = config.load(asked.config, asked.limits)
    chosen = chosen_rules(asked.select, asked.ignore)
    limits = limits_for(asked.ports, settings.limits)
    question = Question(limits=limits, rules=chosen, ports=asked.ports, processes=asked.processes)
    return Chosen(question, settings.notes, not_run(asked.select, chosen))


def limits_for(ports: Collection[int], limits: Limits) -> Limits:
    """Return the limits: whoever names a port wants to know of every left-over socket."""
    return limits.replaced({"restart-blocked": 1}, "--port") if ports else limits


def chosen_rules(
    select: Sequence[str], ignore: Sequence[str], settings_ignore: Iterable[str] = ()
) -> tuple[Rule[Any], ...]:
    """Return the rules to run, in their order; a rule asked for by name beats the settings.

    Raises UsageError for a name that is no rule, and where no rule is left: an OK of none would
    say that all is well.
    """
    ignored = (*ignore, *(name for name in settings_ignore if name not in select))
    chosen = rules.choose(select, ignored)
    both = [name for name in select if name in ignore]
    if both:
        raise UsageError(
            f"--select and --ignore both name {both[0]}", "leave it out of one of the two"
        )
    if not chosen:
        raise UsageError("every rule is ignored, so nothing would be judged", "ignore fewer rules")
    return chosen


def not_run(select: Sequence[str], chosen: Sequence[Rule[Any]]) -> list[Gap]:
    """Return the gap that --select leaves, if any: an OK is about the chosen rules alone."""
    if not select or len(chosen) == len(rules.RULES):
        return []
    names = ", ".join(rule.name for rule in chosen)
    few = len(chosen) <= _MOST_NAMED
    why = f"only {names if few else f'{len(chosen)} of {len(rules.RULES)} rules'} ran"
    return [Gap("rules", why, "leave out --select to run all", partial=True)]
