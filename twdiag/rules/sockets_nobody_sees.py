"""A process keeps connections open that no socket table shows any more.

What it means:
When the peer resets a connection, or keepalive gives it up, the kernel takes the socket out of its
tables at once, but the descriptor stays open until the process closes it. ss, netstat and
/proc/net/tcp show nothing of it: only the descriptor is left, a link to a socket whose number
nobody lists. A CLOSE_WAIT leak turns into this when the process writes to the connections, or when
they have SO_KEEPALIVE. Sockets of another network namespace are not meant: twdiag asks the tables
of all namespaces that it can find, and says nothing where it may not read one of them.

Why it matters:
Each one takes a descriptor, and at the limit accept() and connect() fail with EMFILE ("Too many
open files") while every count of sockets looks healthy.

What to do:
Treat it as a leak of connections: find the code that does not close after an error on read() or
write(), ECONNRESET or EPIPE. Restarting the process frees the descriptors and buys time.

What not to do:
- Do not trust ss, netstat or a count of CLOSE_WAIT here: they cannot see these sockets.
- Do not only raise the descriptor limit: that only postpones the failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, Severity
from twdiag.model.limits import ratio, sockets
from twdiag.rules import fd_limit_near, manual
from twdiag.rules.rule import Group, Rule
from twdiag.rules.subjects import breakdown_evidence, process_subject
from twdiag.wording import count, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits
    from twdiag.model.snapshot import Owner

NAME = "sockets-nobody-sees"
LEAST = sockets("sockets-nobody-sees", 20, "sockets of one process that no table shows")
SHARE = ratio("sockets-nobody-sees-share", 0.25, "such sockets as a share of the descriptor limit")
MANY = sockets(
    "sockets-nobody-sees-many",
    1000,
    "such sockets of one process, and half of its descriptors, however far its limit is",
)


def select(view: View, limits: Limits) -> Iterator[Group[Owner]]:
    """Yield the processes with many descriptors in use."""
    for owner in view.crowded:
        least = min(limits[MANY], limits[SHARE] * (owner.fd_limit or 0))
        if owner.fds and owner.fd_limit and owner.fds >= least:
            yield Group(owner, pids=(owner.pid,))


def tell(view: View, limits: Limits, group: Group[Owner]) -> Iterator[Finding]:
    """Yield a finding on a process with many sockets in no table."""
    owner, breakdown = group.about, view.breakdown(group.about.pid)
    fds, limit = owner.fds or 0, owner.fd_limit or 0
    if breakdown is None:
        return
    lost = breakdown.nowhere
    near = lost >= max(limits[LEAST], limits[SHARE] * limit)
    # Each of them is garbage: where they are most of what a process has, it is a leak, though slow.
    if not near and lost < max(limits[MANY], breakdown.looked / 2):
        return
    serious = fds >= limits[fd_limit_near.CRITICAL] * limit
    severity = Severity.CRITICAL if serious else Severity.WARNING if near else Severity.NOTICE
    # A socket that came in from outside of a container is in a table that only its host shows.
    unless = ", unless they are of a network namespace that was not looked at"
    yield Finding(
        severity,
        Confidence.INFERRED if breakdown.hidden else Confidence.OBSERVED,
        f"{owner.name} (pid {owner.pid}) holds {count(breakdown.nowhere, 'socket')} that no table "
        f"shows: reset by the peer, never closed{unless if breakdown.hidden else ''}; {fds:,} of "
        f"{limit:,} descriptors open ({share(fds / limit)})",
        process_subject(owner),
        {
            facts.FDS: fds,
            facts.FD_LIMIT: limit,
            facts.FD_RATIO: round(fds / limit, 4),
            **breakdown_evidence(breakdown),
        },
        (
            Advice(
                "Find the code path that does not close after a failed read or write",
                f"the descriptors whose sockets ss does not list: ls -l /proc/{owner.pid}/fd",
                verify=f"fewer descriptors: ls /proc/{owner.pid}/fd | wc -l",
            ),
            Advice(
                "To buy time, restart the process in a quiet moment",
                cost="its live connections end too",
            ),
        ),
    )


RULE = Rule(
    NAME, manual.text_of(__doc__, __file__), select, tell, ("sockets",), (LEAST, SHARE, MANY)
)
