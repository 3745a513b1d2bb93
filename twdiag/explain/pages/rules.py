"""The pages of the rules and of known server software: their own manuals, set as pages."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

from twdiag.explain.page import Block, Heading, Item, Kind, Page, prose

if TYPE_CHECKING:
    from twdiag.rules.rule import Rule
    from twdiag.software import Software, Statement

_HEADING: Final = re.compile(r"^((?:What|Why|How)[^:\n]*):[ \t]*$", re.MULTILINE)


def rule_page(rule: Rule[Any]) -> Page:
    """Return a rule's manual as a page."""
    manual = inspect.cleandoc(rule.manual)
    summary, _, rest = manual.partition("\n\n")
    summary = " ".join(summary.split())
    body = prose(_HEADING.sub(r"## \1", rest))
    see = _SEE.get(rule.name, ())
    return Page(rule.name, Kind.RULE, f"{rule.name}: {summary}", summary, body, see)


_SEE: Final = {
    "server-closes-first": ("who-should-close", "active-and-passive-closer", "TIME_WAIT"),
    "time-wait-table-filling": ("lower-tcp-max-tw-buckets", "TIME_WAIT"),
    "time-wait-rising": ("TIME_WAIT", "how-long-is-time-wait"),
    "ports-running-out": ("ephemeral-ports", "TIME_WAIT"),
    "bound-ports-running-out": ("ephemeral-ports",),
    "connection-churn": ("who-should-close", "ephemeral-ports"),
    "close-wait-leak": ("CLOSE_WAIT", "recv-q", "close-wait-for-ever"),
    "close-wait-unread": ("CLOSE_WAIT", "recv-q"),
    "close-wait-never-accepted": ("CLOSE_WAIT", "LISTEN", "recv-q"),
    "close-wait-idle-pool": ("CLOSE_WAIT", "recv-q"),
    "accept-queue-full": ("LISTEN",),
    "fd-limit-near": ("CLOSE_WAIT",),
    "peer-never-closes": ("FIN_WAIT2", "fin-wait2-and-tcp-fin-timeout", "half-close"),
    "fin-unanswered": ("FIN_WAIT1", "LAST_ACK", "orphans", "peer-vanished"),
    "restart-blocked": ("bind-fails-after-restart", "reuseaddr-always-helps"),
    "listener-in-ephemeral-range": ("ephemeral-ports", "bind-fails-after-restart"),
    "misleading-sysctl": ("sysctls", "myths"),
    "conntrack-filling": ("nat-and-conntrack",),
    "syn-unanswered": ("SYN_SENT", "three-way-open"),
}


def software_page(software: Software) -> Page:
    """Return what is known of a server program as a page, each statement with its source."""
    summary = f"what is known of {software.title}: who closes, and which setting decides"
    body: list[Block] = []
    sides = (
        ("As a server", software.server),
        ("As a client (upstreams, pools)", software.client),
    )
    for heading, statements in sides:
        if statements:
            body.append(Heading(heading))
            for statement in statements:
                body += _statement(statement)
    return Page(
        software.name,
        Kind.SOFTWARE,
        f"{software.title}: who closes first, and which setting decides",
        summary,
        tuple(body),
        ("who-should-close", "ephemeral-ports", "CLOSE_WAIT"),
    )


def _statement(statement: Statement) -> list[Block]:
    """Return the blocks of one statement: the fact, what to change, its cost and its source."""
    blocks: list[Block] = [Item(statement.text)]
    details = (
        ("change", statement.change),
        ("default", statement.default),
        ("cost", statement.cost),
        ("source", statement.source),
    )
    blocks += [Item(text, f"  {name}:") for name, text in details if text]
    return blocks
