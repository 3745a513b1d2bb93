"""The pages of the rules and of known server software: their own manuals, set as pages."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import TwdiagError
from twdiag.explain.markdown import Directive, parse_blocks
from twdiag.explain.page import Heading, IndexEntry, Item, Page, PageBlock, PageKind

if TYPE_CHECKING:
    from twdiag.rules.rule import Rule
    from twdiag.software import Software, Statement

_HEADING: Final = re.compile(r"^((?:What|Why|How)[^:\n]*):[ \t]*$", re.MULTILINE)


def rule_entry(rule: Rule[Any]) -> IndexEntry:
    """Return a rule as the index shows it; without a summary where Python stripped the manual."""
    summary = " ".join(inspect.cleandoc(rule.manual or "").partition("\n\n")[0].split())
    return IndexEntry(rule.name, PageKind.RULE, f"{rule.name}: {summary}", summary)


def rule_page(rule: Rule[Any]) -> Page:
    """Return a rule's manual as a page; raises TwdiagError where there is no manual to show."""
    if not rule.manual:
        raise TwdiagError(
            f"the manual of {rule.name} was stripped: Python runs with -OO or PYTHONOPTIMIZE=2",
            f"run: PYTHONOPTIMIZE= twdiag explain {rule.name}",
        )
    entry = rule_entry(rule)
    rest = inspect.cleandoc(rule.manual).partition("\n\n")[2]
    lines = _HEADING.sub(r"## \1", rest).split("\n")
    # A manual names no drawings: words in braces would be a mistake in the rule.
    body = [b for b in parse_blocks(lines, rule.name) if not isinstance(b, Directive)]
    see = SEE.get(rule.name, ())
    return Page(rule.name, PageKind.RULE, entry.title, entry.summary, tuple(body), see)


SEE: Final = {
    "server-closes-first": ("who-should-close", "active-and-passive-closer", "TIME_WAIT"),
    "time-wait-table-filling": ("lower-tcp-max-tw-buckets", "TIME_WAIT"),
    "time-wait-rising": ("TIME_WAIT", "how-long-is-time-wait"),
    "ports-running-out": ("ephemeral-ports", "TIME_WAIT"),
    "bound-ports-running-out": ("ephemeral-ports",),
    "snat-ports-running-out": ("nat-and-conntrack", "ephemeral-ports"),
    "conntrack-filling": ("nat-and-conntrack",),
    "keep-alive-race": ("idle-timeouts", "request-meets-close", "keep-alive", "error-messages"),
    "connection-churn": ("who-should-close", "ephemeral-ports"),
    "close-wait-leak": ("CLOSE_WAIT", "recv-q", "close-wait-for-ever"),
    "close-wait-unread": ("CLOSE_WAIT", "recv-q"),
    "close-wait-never-accepted": ("CLOSE_WAIT", "LISTEN", "recv-q"),
    "close-wait-idle-pool": ("CLOSE_WAIT", "recv-q"),
    "accept-queue-full": ("LISTEN",),
    "fd-limit-near": ("CLOSE_WAIT",),
    "sockets-nobody-sees": ("keep-alive", "CLOSED", "find-the-line", "error-messages"),
    "idle-established-leak": ("ESTABLISHED", "dead-peer", "half-open"),
    "peer-never-closes": ("FIN_WAIT2", "fin-wait2-and-tcp-fin-timeout", "half-close"),
    "data-unanswered": ("dead-peer", "peer-vanished", "half-open", "ESTABLISHED"),
    "fin-unanswered": ("FIN_WAIT1", "LAST_ACK", "orphans", "peer-vanished"),
    "restart-blocked": ("bind-fails-after-restart", "reuseaddr-always-helps"),
    "listener-in-ephemeral-range": ("ephemeral-ports", "bind-fails-after-restart"),
    "misleading-sysctl": ("sysctls", "myths"),
    "syn-unanswered": ("SYN_SENT", "three-way-open"),
}
"""What to read beside the manual of each rule, by its name."""


def software_entry(software: Software) -> IndexEntry:
    """Return a program as the index shows it."""
    summary = f"what is known of {software.title}: who closes, and which setting decides"
    title = f"{software.title}: who closes first, and which setting decides"
    return IndexEntry(software.name, PageKind.SOFTWARE, title, summary)


def software_page(software: Software) -> Page:
    """Return what is known of a program as a page, each statement with its source."""
    entry = software_entry(software)
    body: list[PageBlock] = []
    sources: list[str] = []
    sides = (
        ("As a server", software.server),
        ("As a client (upstreams, pools)", software.client),
    )
    for heading, statements in sides:
        if statements:
            body.append(Heading(heading))
            for statement in statements:
                if statement.source not in sources:
                    sources.append(statement.source)
                body += _statement(statement, sources.index(statement.source) + 1)
    see = ("who-should-close", "ephemeral-ports", "CLOSE_WAIT")
    cites = tuple(f"[{number}] {source}" for number, source in enumerate(sources, 1))
    return Page(entry.name, entry.kind, entry.title, entry.summary, tuple(body), see, cites)


def _statement(statement: Statement, source: int) -> list[PageBlock]:
    """Return the blocks of one statement: the fact with its source, what to change, its cost."""
    blocks: list[PageBlock] = [Item(f"{statement.text} [{source}]")]
    details = (
        ("change", statement.change),
        ("default", statement.default),
        ("cost", statement.cost),
    )
    blocks += [Item(text, f"  {name}:") for name, text in details if text]
    return blocks
