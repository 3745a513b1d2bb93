"""A sysctl is set to something that does not do what it is usually set for.

What it means:
tcp_fin_timeout limits how long an orphan may stay in FIN_WAIT2; it does not shorten TIME_WAIT,
which is 60 s, compiled in. Above 60 the kernel splits the wait and 2 x (T - 60) s come out.
tcp_tw_reuse lets outgoing connect() calls reuse a TIME_WAIT; it needs TCP timestamps and does
nothing for a server's own TIME_WAITs. tcp_tw_recycle is gone since Linux 4.12 and broke clients
behind NAT before. A small tcp_max_tw_buckets does not remove the cause of TIME_WAIT, only its
protection.

Why it matters:
The setting gives the impression that something was done, and some of them do harm.

What to do:
Remove the setting, and act on the findings that name the cause.

What not to do:
- Do not copy TIME_WAIT settings from old guides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.census.columns import both
from twdiag.model import Advice, Confidence, Finding, HostSubject, Place, Rule, Severity
from twdiag.rules import manual
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model import Snapshot
    from twdiag.model.limits import Limits

NAME = "misleading-sysctl"
MANUAL = __doc__ or ""
_PREFIX = "net.ipv4."
_DEFAULT_TABLE_FLOOR = 4096


def check(snapshot: Snapshot, limits: Limits) -> Iterator[Finding]:
    """Yield one finding for each setting that misleads on this host."""
    many = snapshot.flows.closes.total >= limits["server-closes-first"]
    for name, problem, remedy in (
        *_fin_timeout(snapshot, many),
        *_tw_reuse(snapshot, many),
        *_tw_recycle(snapshot),
        *_max_tw_buckets(snapshot),
    ):
        yield _finding(snapshot, name, problem, remedy)


def _fin_timeout(snapshot: Snapshot, many: bool) -> Iterator[tuple[str, str, str]]:
    """A short timeout alone is a choice; beside many TIME_WAITs it is meant for them."""
    name = _PREFIX + "tcp_fin_timeout"
    seconds = snapshot.sysctl(name)
    if seconds is not None and seconds > 60:
        real = 2 * (seconds - 60)
        yield name, f"orphans in FIN_WAIT2 then live {real} s, not {seconds}", f"{name}=60"
    elif seconds is not None and seconds < 60 and many:
        yield name, "it does not shorten TIME_WAIT, which stays at 60 s", f"{name}=60"


def _tw_reuse(snapshot: Snapshot, many: bool) -> Iterator[tuple[str, str, str]]:
    name = _PREFIX + "tcp_tw_reuse"
    if snapshot.sysctl(name) != 1:
        return
    if snapshot.sysctl(_PREFIX + "tcp_timestamps") == 0:
        remedy = f"{_PREFIX}tcp_timestamps=1"
        yield name, "it has no effect without TCP timestamps, which are off", remedy
        return
    if many and 1 not in both(snapshot.flows.client_side, snapshot.flows.time_wait):
        why = "every TIME_WAIT here was made by a server, and it serves outgoing connections only"
        yield name, why, f"{name}=2"


def _tw_recycle(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    name = _PREFIX + "tcp_tw_recycle"
    if snapshot.sysctl(name):
        yield name, "it drops the SYNs of clients behind NAT", f"{name}=0"


def _max_tw_buckets(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    """The default is half of the connection hash table; below that somebody lowered it."""
    name = _PREFIX + "tcp_max_tw_buckets"
    size = snapshot.sysctl(name)
    entries = snapshot.sysctl(_PREFIX + "tcp_ehash_entries")
    default = abs(entries) // 2 if entries else _DEFAULT_TABLE_FLOOR
    if size is not None and size < min(default, _DEFAULT_TABLE_FLOOR):
        why = "above it connections close without TIME_WAIT's protection against old segments"
        yield name, why, f"{name}={default}"


def _finding(snapshot: Snapshot, name: str, problem: str, remedy: str) -> Finding:
    value = snapshot.sysctls.get(name, "")
    return Finding(
        NAME,
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{name} is {value}: {problem}",
        HostSubject(),
        {"sysctl": name, "value": value},
        manual.why(MANUAL),
        (
            Advice(
                "Put it right, here and in /etc/sysctl.conf and /etc/sysctl.d/",
                f"sysctl -w {remedy}",
                verify=f"sysctl {name}",
            ),
        ),
        manual.do_not(MANUAL),
        Place.of(State.FIN_WAIT2 if name.endswith("fin_timeout") else State.TIME_WAIT),
        snapshot.netns,
    )


RULE = Rule(NAME, MANUAL, check, ("sockets",))
