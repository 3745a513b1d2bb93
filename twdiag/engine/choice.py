"""What is judged, and how: the rules and limits that flags and settings leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twdiag import rules
from twdiag.errors import UsageError
from twdiag.model.snapshot import Gap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twdiag.model.limits import Limits
    from twdiag.rules.rule import Rule

_MOST_NAMED: Final = 2
"""Rules that are named one by one where the others are left out: the status line is short."""


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
