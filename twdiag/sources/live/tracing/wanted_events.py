"""Which trace events are asked for, with their filters, and what is made of each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from twdiag.model.closes import (
    Killed,
    ResetReceived,
    ResetSent,
    SocketGone,
    StateChange,
    ThreadBegins,
    ThreadEnds,
)
from twdiag.sources.live.tracing.trace_buffer import text_of
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.closes import TraceEvent
    from twdiag.sources.live.tracing.trace_buffer import EventFormat, Maker

    EventMaker = Maker[TraceEvent]

MOST_PORTS: Final = 16
"""A filter names so many ports at most."""

STATES: Final = (
    "protocol == 6 && ("
    f"(newstate == {State.ESTABLISHED:d} && oldstate != {State.ESTABLISHED:d})"
    f" || oldstate == {State.ESTABLISHED:d} || oldstate == {State.CLOSE_WAIT:d}"
    f" || newstate == {State.CLOSING:d} || newstate == {State.CLOSE:d}"
    # A close() after a shutdown() changes nothing and is announced all the same.
    f" || (oldstate == {State.FIN_WAIT1:d} && newstate == {State.FIN_WAIT1:d})"
    f" || (oldstate == {State.FIN_WAIT2:d} && newstate == {State.FIN_WAIT2:d}))"
)


class WantedEvent(NamedTuple):
    """A trace event that is asked for; without a needed one nothing can be told."""

    name: str
    filter: str
    maker: Callable[[EventFormat], EventMaker]
    needed: bool = True


def _as(kind: type[TraceEvent], *fields: str) -> Callable[[EventFormat], EventMaker]:
    """Return what makes events of a kind whose values are the moment and these fields."""
    # As _make() does, without its check: some events come 50,000 a second.
    build = cast("Callable[[tuple[Any, ...]], TraceEvent]", partial(tuple.__new__, kind))
    return lambda found: (build, found.decoder(*fields))


def reset_sent(found: EventFormat) -> EventMaker:
    words = found.symbols.get("reason", {})
    if "reason" not in found.fields:
        return lambda values: ResetSent(values[0], values[1], ""), found.decoder("skaddr")

    def build(values: tuple[Any, ...]) -> TraceEvent:
        at, sk, reason, *ends = values
        return ResetSent(at, sk, words.get(reason, str(reason)), *ends)

    return build, found.decoder("skaddr", "reason", *ends_of_reset(found))


def ends_of_reset(found: EventFormat) -> tuple[str, ...]:
    """Return the fields with both ends as struct sockaddr, which came with the reason (6.10)."""
    fields = found.fields
    told = "reason" in fields and "saddr" in fields and "sport" not in fields
    return ("saddr", "daddr") if told else ()


def _thread_ends(found: EventFormat) -> EventMaker:
    def build(values: tuple[Any, ...]) -> TraceEvent:
        at, name, tid = values
        return ThreadEnds(at, text_of(name), tid)

    return build, found.decoder("comm", "common_pid")


_state_change: Final = _as(
    StateChange, "common_flags", "common_pid", "skaddr", "oldstate", "newstate", "sport", "dport",
    "family", "saddr+daddr+saddr_v6+daddr_v6",
)  # fmt: skip
_socket_gone: Final = _as(SocketGone, "common_flags", "common_pid", "skaddr", "sock_cookie")
_thread_begins: Final = _as(ThreadBegins, "common_pid", "pid", "clone_flags")
WANTED: Final = (
    WantedEvent("sock/inet_sock_set_state", STATES, _state_change),
    WantedEvent("tcp/tcp_destroy_sock", "", _socket_gone),
    WantedEvent("tcp/tcp_receive_reset", "", _as(ResetReceived, "skaddr")),
    WantedEvent("tcp/tcp_send_reset", "skaddr != 0", reset_sent),
    WantedEvent("sched/sched_process_exit", "", _thread_ends),
    WantedEvent("task/task_newtask", "", _thread_begins, needed=False),
    WantedEvent("signal/signal_generate", "sig == 9", _as(Killed, "pid"), needed=False),
)
