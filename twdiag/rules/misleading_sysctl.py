"""A sysctl is set to something that does not do what it is usually set for.

What it means:
tcp_fin_timeout limits how long an orphan may stay in FIN_WAIT2; it does not shorten TIME_WAIT,
which is 60 s, compiled in. Above 60 the kernel splits the wait and 2 x (T - 60) s come out: 61
gives 2 s, and only 120 does what it says. tcp_tw_reuse lets outgoing connect() calls reuse a
TIME_WAIT; it needs TCP timestamps and does nothing for a server's own TIME_WAITs. tcp_tw_recycle
has been gone since Linux 4.12; before that it broke clients behind NAT. A small tcp_max_tw_buckets
does not remove the cause of TIME_WAIT, only its protection.

Why it matters:
Such a setting gives the impression that something has been done, and some do harm.

What to do:
Remove the setting, and act on the findings that name the cause.

What not to do:
- Do not copy TIME_WAIT settings from old guides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.model import facts
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Place, Severity
from twdiag.named import NamedTuple
from twdiag.rules import manual, server_closes_first
from twdiag.rules.rule import Group, Rule
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.analysis.view import View
    from twdiag.model.limits import Limits

NAME = "misleading-sysctl"
_PREFIX = "net.ipv4."
_FIN_TIMEOUT = _PREFIX + "tcp_fin_timeout"
_DEFAULT_TABLE_FLOOR = 4096


class _Setting(NamedTuple):
    """A setting that misleads, why, and what puts it right."""

    name: str
    problem: str
    remedy: str


def select(view: View, limits: Limits) -> Iterator[Group[_Setting]]:
    """Yield each setting that misleads on this host."""
    many = view.closes.total >= limits[server_closes_first.LEAST]
    for setting in (
        *_fin_timeout(view, many),
        *_tw_reuse(view, many),
        *_tw_recycle(view),
        *_max_tw_buckets(view),
    ):
        yield Group(setting)


def _fin_timeout(view: View, many: bool) -> Iterator[_Setting]:
    """A short timeout alone is a choice; beside many TIME_WAITs it is meant for them."""
    seconds = view.sysctl(_FIN_TIMEOUT)
    if seconds is not None and seconds > 60:
        real = 2 * (seconds - 60)
        if real != seconds:
            why = f"orphans in FIN_WAIT2 then live {real} s, not {seconds}"
            yield _Setting(_FIN_TIMEOUT, why, f"{_FIN_TIMEOUT}=60")
    elif seconds is not None and seconds < 60 and many:
        why = "it does not shorten TIME_WAIT, which stays at 60 s"
        yield _Setting(_FIN_TIMEOUT, why, f"{_FIN_TIMEOUT}=60")


def _tw_reuse(view: View, many: bool) -> Iterator[_Setting]:
    name = _PREFIX + "tcp_tw_reuse"
    if view.sysctl(name) != 1:
        return
    if view.sysctl(_PREFIX + "tcp_timestamps") == 0:
        remedy = f"{_PREFIX}tcp_timestamps=1"
        yield _Setting(name, "it has no effect without TCP timestamps, which are off", remedy)
    elif many and not view.census.by_client.time_wait.total:
        why = "every TIME_WAIT here was made by a server, and it serves outgoing connections only"
        yield _Setting(name, why, f"{name}=2")


def _tw_recycle(view: View) -> Iterator[_Setting]:
    name = _PREFIX + "tcp_tw_recycle"
    if view.sysctl(name):
        yield _Setting(name, "it drops the SYNs of clients behind NAT", f"{name}=0")


def _max_tw_buckets(view: View) -> Iterator[_Setting]:
    """The default is half of the connection hash table; below that somebody lowered it."""
    name = _PREFIX + "tcp_max_tw_buckets"
    size, entries = view.sysctl(name), view.sysctl(_PREFIX + "tcp_ehash_entries")
    default = abs(entries) // 2 if entries else _DEFAULT_TABLE_FLOOR
    if size is not None and size < min(default, _DEFAULT_TABLE_FLOOR):
        why = "above it connections close without TIME_WAIT's protection against old segments"
        yield _Setting(name, why, f"{name}={default}")


def tell(view: View, limits: Limits, group: Group[_Setting]) -> Iterator[Finding]:
    """Yield one finding for each setting."""
    name, problem, remedy = group.about
    value = view.sysctl_text(name)
    yield Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        f"{name} is {value}: {problem}",
        HostSubject(),
        {facts.SYSCTL: name, facts.VALUE: value},
        (
            Advice(
                "Put it right, here and in /etc/sysctl.conf and /etc/sysctl.d/",
                f"sysctl -w {remedy}",
                verify=f"sysctl {remedy.partition('=')[0]}",
            ),
        ),
        Place.of(State.FIN_WAIT2 if name == _FIN_TIMEOUT else State.TIME_WAIT),
    )


RULE = Rule(
    NAME,
    manual.text_of(__doc__, __file__),
    select,
    tell,
    ("sockets",),
    (server_closes_first.LEAST,),
)
