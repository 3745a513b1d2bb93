"""What is judged, and how: the rules and limits that flags and settings leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twdiag import rules
from twdiag.errors import UsageError
from twdiag.model.snapshot import IGNORED, NOT_RUN, Gap
from twdiag.wording import count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twdiag.model.limits import Limits
    from twdiag.rules.rule import Rule

_MOST_NAMED: Final = 2
"""Rules that are named one by one where the others are left out: the status line is short."""

_LONGEST_NAME: Final = 28
"""Characters for names there, beside the numbers of a busy host."""


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


def left_out(
    chosen: Sequence[Rule[Any]],
    select: Sequence[str],
    ignore: Sequence[str],
    settings_ignore: Iterable[str] = (),
) -> list[Gap]:
    """Return what an OK has to admit of the rules: only some were to run, or some were not to."""
    if len(chosen) == len(rules.RULES):
        return []
    if select:
        return [_only(chosen)]
    by_option = dict.fromkeys(ignore)
    by_settings = dict.fromkeys(name for name in settings_ignore if name not in by_option)
    gaps = (
        _ignored(by_option, "leave out --ignore to run all"),
        _ignored(by_settings, "take them out of `ignore` in the settings to run all"),
    )
    return [gap for gap in gaps if gap is not None]


def _only(chosen: Sequence[Rule[Any]]) -> Gap:
    names = ", ".join(rule.name for rule in chosen)
    share = f"{len(chosen)} of {len(rules.RULES)} rules"
    why = f"only {names if len(chosen) <= _MOST_NAMED else share} ran"
    short = f"only {names if len(names) <= _LONGEST_NAME else share} ran"
    return Gap(NOT_RUN, why, "leave out --select to run all", partial=True, short=short)


def _ignored(names: Collection[str], how: str) -> Gap | None:
    if not names:
        return None
    short = f"{count(len(names), 'rule')} ignored"
    return Gap(IGNORED, f"{short}: {', '.join(names)}", how, partial=True, short=short)
