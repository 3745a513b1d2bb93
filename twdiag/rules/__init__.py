"""The rules: pure functions from a View to findings, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import UsageError
from twdiag.model.limits import Limits, nearest
from twdiag.rules import (
    accept_queue_full,
    bound_ports_running_out,
    close_wait_idle_pool,
    close_wait_leak,
    close_wait_never_accepted,
    close_wait_unread,
    connection_churn,
    conntrack_filling,
    data_unanswered,
    fd_limit_near,
    fin_unanswered,
    idle_established_leak,
    keep_alive_race,
    listener_in_ephemeral_range,
    misleading_sysctl,
    peer_never_closes,
    ports_running_out,
    restart_blocked,
    server_closes_first,
    snat_ports_running_out,
    sockets_nobody_sees,
    syn_unanswered,
    time_wait_rising,
    time_wait_table_filling,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.rules.rule import Rule

RULES: Final[tuple[Rule[Any], ...]] = (
    ports_running_out.RULE,
    snat_ports_running_out.RULE,
    conntrack_filling.RULE,
    accept_queue_full.RULE,
    fd_limit_near.RULE,
    sockets_nobody_sees.RULE,
    close_wait_never_accepted.RULE,
    bound_ports_running_out.RULE,
    close_wait_leak.RULE,
    close_wait_unread.RULE,
    idle_established_leak.RULE,
    time_wait_table_filling.RULE,
    data_unanswered.RULE,
    fin_unanswered.RULE,
    keep_alive_race.RULE,
    peer_never_closes.RULE,
    syn_unanswered.RULE,
    restart_blocked.RULE,
    close_wait_idle_pool.RULE,
    time_wait_rising.RULE,
    connection_churn.RULE,
    server_closes_first.RULE,
    listener_in_ephemeral_range.RULE,
    misleading_sysctl.RULE,
)
"""Every rule, the most harmful first: the order of findings of the same severity."""

LIMITS: Final = tuple(dict.fromkeys(limit for rule in RULES for limit in rule.limits))
"""Every limit of the rules."""

DEFAULTS: Final = Limits(LIMITS)


def choose(chosen: Iterable[str] = (), ignored: Iterable[str] = ()) -> tuple[Rule[Any], ...]:
    """Return the rules that --select and --ignore leave; UsageError for a name that is none."""
    chosen, ignored = tuple(chosen), tuple(ignored)
    names = [rule.name for rule in RULES]
    for name in (*chosen, *ignored):
        if name not in names:
            raise UsageError(
                f"there is no rule {name!r}{nearest(name, names)}", "list them with: twdiag explain"
            )
    return tuple(
        rule for rule in RULES if (not chosen or rule.name in chosen) and rule.name not in ignored
    )
