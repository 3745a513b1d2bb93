"""This host's own numbers under the theory: how many sockets, one example row, what a rule says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.page import Command, Heading, Item, PageBlock, Text
from twdiag.model.sockets import (
    TIMER_KEEPALIVE,
    TIMER_RETRANSMIT,
    TIMER_TIME_WAIT,
    TIMER_ZERO_WINDOW,
    Socket,
)
from twdiag.tcp import State
from twdiag.wording import count, duration, endpoint, rate, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twdiag.model.findings import Report
    from twdiag.model.snapshot import Gap, Snapshot

_TIMERS: Final = {
    TIMER_RETRANSMIT: "resends in",
    TIMER_KEEPALIVE: "keepalive in",
    TIMER_TIME_WAIT: "ends in",
    TIMER_ZERO_WINDOW: "probes the zero window in",
}


def state_now(state: State, snapshot: Snapshot) -> tuple[PageBlock, ...]:
    """Return what this host has of a state now: the number, an example, and what belongs to it."""
    heading = Heading(f"On this host now ({visible(snapshot.host.name)}, {snapshot.source})")
    gap = _gap(snapshot, "sockets")
    if gap is not None:
        return heading, Text(f"Not seen: {gap.why}. {gap.how}")
    if state is State.CLOSE:
        return heading, Text("None now: the kernel keeps nothing of a closed connection.")
    found = snapshot.census.states.get(state, 0)
    if not found:
        return heading, Text(f"None now: no socket is in {state.name}."), *_facts(state, snapshot)
    number = Text(f"{count(found, 'socket')} in {state.name}. For example:")
    return heading, number, *_example(state, snapshot), *_facts(state, snapshot)


def example(state: State, snapshot: Snapshot) -> Socket | None:
    """Return one real row of a state, the one that tells most, None where there is none."""
    kept = snapshot.census.in_state(state)
    # The longest queue tells most; in LISTEN it is the accept queue.
    return max(kept, key=lambda s: s.recv_q, default=snapshot.census.examples.get(state))


def rule_now(report: Report, snapshot: Snapshot) -> tuple[PageBlock, ...]:
    """Return what a report of one rule says of this host: findings and a row, or that none is."""
    heading = Heading(f"On this host now ({visible(report.host.name)}, {report.source})")
    if report.skipped:
        skip = report.skipped[0]
        return heading, Text(f"Not checked: {skip.reason}. {skip.how}")
    if not report.findings:
        return heading, Text("None now: this rule finds nothing on this host.")
    items = [Item(f"{f.severity.label}: {visible(f.summary)}") for f in report.findings]
    place = report.findings[0].place
    rows = _example(place.state, snapshot) if place else ()
    about = Text(f"One of the sockets in {place.state.name}:") if place and rows else None
    more = (about, *rows) if about else ()
    return heading, *items, *more, Command("twdiag diagnose --full", "with evidence and advice")


def _example(state: State, snapshot: Snapshot) -> tuple[PageBlock, ...]:
    row = example(state, snapshot)
    return () if row is None else (Item(_row(row, snapshot), " "),)


def _row(row: Socket, snapshot: Snapshot) -> str:
    """Return a row in words, with its owner where one was seen."""
    owners = snapshot.owners.get(row.inode, ()) if row.inode else ()
    held = ", ".join(f"{visible(owner.name)}[{owner.pid}]" for owner in owners)
    return _text(row) + (f", held by {held}" if held else "")


def _text(row: Socket) -> str:
    """Return a row in words."""
    local = endpoint(row.local_address, row.local_port)
    if row.state is State.LISTEN:
        return f"{local}, {row.recv_q} waiting for accept(), backlog {row.send_q}"
    words = [f"{local} -> {endpoint(row.remote_address, row.remote_port)}"]
    if row.timer in _TIMERS:
        words.append(f"{_TIMERS[row.timer]} {duration(row.expires / 1000)}")
    if row.retrans:
        words.append(count(row.retrans, "retry", "retries"))
    if row.state is not State.TIME_WAIT:
        words.append(f"Recv-Q {row.recv_q}, Send-Q {row.send_q}")
    return ", ".join(words)


def _facts(state: State, snapshot: Snapshot) -> list[PageBlock]:
    """Return the settings and rates of this host that belong to a state."""
    return [Item(text) for text in _FACTS[state](snapshot) if text] if state in _FACTS else []


def _time_wait(snapshot: Snapshot) -> Iterable[str]:
    if _gap(snapshot, "timers") is None:
        closes = snapshot.census.all.time_wait
        yield (
            f"closed in the last minute: {sum(closes.seconds):,} "
            f"({rate(closes.mean)}); last seconds: {rate(closes.recent)}"
        )
    yield _setting(snapshot, "net.ipv4.tcp_max_tw_buckets", "at most")
    yield _setting(snapshot, "net.ipv4.tcp_tw_reuse", "reuse by connect()")
    yield _counter(snapshot, "TcpExt.TCPTimeWaitOverflow", "closed without TIME_WAIT since boot")


def _fin_wait2(snapshot: Snapshot) -> Iterable[str]:
    total = snapshot.census.states.get(State.FIN_WAIT2, 0)
    if total and _gap(snapshot, "timers") is None:
        orphans = sum(snapshot.census.all.orphans.values())
        yield f"after close(): {orphans}; still held by an application: {total - orphans}"
    yield _setting(snapshot, "net.ipv4.tcp_fin_timeout", "after close() it ends after, s")


def _close_wait(snapshot: Snapshot) -> Iterable[str]:
    found = snapshot.census.in_state(State.CLOSE_WAIT)
    if found and _gap(snapshot, "queues") is None:
        drained = sum(socket.recv_q == 0 for socket in found)
        only_fin = sum(socket.recv_q == 1 for socket in found)
        rest = len(found) - drained - only_fin
        yield f"drained, not closed: {drained}; only FIN unread: {only_fin}; data unread: {rest}"
    if found and _gap(snapshot, "inodes") is None:
        yield f"never accepted: {sum(socket.inode == 0 for socket in found)}"


def _orphan(snapshot: Snapshot) -> Iterable[str]:
    yield _setting(snapshot, "net.ipv4.tcp_orphan_retries", "retries after close() (0 means 8)")
    yield _counter(snapshot, "TcpExt.TCPAbortOnTimeout", "given up since boot")


def _listen(snapshot: Snapshot) -> Iterable[str]:
    yield _counter(snapshot, "TcpExt.ListenOverflows", "dropped since boot, queue full")


def _established(snapshot: Snapshot) -> Iterable[str]:
    yield _counter(snapshot, "Tcp.CurrEstab", "CurrEstab, with CLOSE_WAIT")


_FACTS: Final[dict[State, Callable[[Snapshot], Iterable[str]]]] = {
    State.TIME_WAIT: _time_wait,
    State.FIN_WAIT2: _fin_wait2,
    State.CLOSE_WAIT: _close_wait,
    State.FIN_WAIT1: _orphan,
    State.LAST_ACK: _orphan,
    State.CLOSING: _orphan,
    State.LISTEN: _listen,
    State.ESTABLISHED: _established,
}


def _setting(snapshot: Snapshot, name: str, meaning: str) -> str:
    """Return a sysctl with its meaning; an unseen one is left out, never shown as 0."""
    value = snapshot.sysctls.get(name)
    return "" if value is None else f"{name} = {visible(value)} ({meaning})"


def _counter(snapshot: Snapshot, name: str, meaning: str) -> str:
    value = snapshot.counters.get(name)
    return "" if value is None else f"{name.replace('.', '')} = {value:,} ({meaning})"


def _gap(snapshot: Snapshot, what: str) -> Gap | None:
    """Return why something was not seen at all, None where it was."""
    return next((gap for gap in snapshot.gaps if gap.what == what and not gap.partial), None)
