"""What diagnose and watch are asked in the same words: what to look at, and how to judge it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from twdiag.engine.choice import chosen_rules, left_out, limits_for
from twdiag.engine.look import Question
from twdiag.settings import config

if TYPE_CHECKING:
    from twdiag.model.snapshot import Gap


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
    return Chosen(question, settings.notes, left_out(chosen, asked.select, asked.ignore))
