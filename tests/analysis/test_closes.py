"""Events of one socket make one end; who closed first, how and why, also where events are lost."""

from __future__ import annotations

import random
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.close_summary import MARKS, Spread, Summary
from twdiag.analysis.closes import (
    Clock,
    Join,
    address_text,
    bytes_sent,
    end_of,
    idle_before,
    requests_at_most,
)
from twdiag.analysis.inferred_closes import (
    LINGER,
    NEVER,
    NO_ROOM,
    TIMED_OUT,
    UNREAD,
    Inference,
    Remains,
    is_connection,
    needs_listener,
)
from twdiag.analysis.tracks import Fold
from twdiag.model.closes import (
    Close,
    ClosedBy,
    Closer,
    Death,
    How,
    Killed,
    Opened,
    ResetReceived,
    ResetSent,
    SocketGone,
    StateChange,
    ThreadEnds,
    Traffic,
    Why,
)
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.model.closes import TraceEvent

HERE: Final = socket.inet_aton("10.0.0.1")
THERE: Final = socket.inet_aton("10.0.0.2")
TASK, SOFTIRQ = 0, 0x10
MS: Final = 1_000_000
CLOCK: Final = Clock(offset=10**18, began=0)


def change(
    at: int, old: State, new: State, flags: int = TASK, sk: int = 1, tid: int = 7, port: int = 80
) -> StateChange:
    """Return a change of state, `at` in milliseconds."""
    return StateChange(at * MS, flags, tid, sk, old, new, port, 4000, 2, HERE + THERE + bytes(32))


def gone(at: int, flags: int = SOFTIRQ, sk: int = 1, tid: int = 7) -> SocketGone:
    """Return the end of a socket, whose cookie is its address times a hundred."""
    return SocketGone(at * MS, flags, tid, sk, sk * 100)


def traffic(**values: Any) -> Traffic:
    """Return what tcp_info says of an ordinary connection at its end, in part."""
    usual: dict[str, Any] = dict.fromkeys(Traffic._fields, 0)
    usual |= {"own_mss": 1460, "rtt": 500, "min_rtt": 40, "segments_in": 5, "delivered": 1}
    return Traffic(**usual | values)


def death(cookie: int = 100, *, at: int = 0, **values: Any) -> Death:
    """Return an announcement."""
    usual: dict[str, Any] = {
        "family": 2,
        "local": HERE,
        "local_port": 80,
        "remote": THERE,
        "remote_port": 4000,
        "interface": 0,
        "unread": 0,
        "unacked": 0,
        "traffic": traffic(),
    }
    return Death(at=at * MS, cookie=cookie, **usual | values)


def name_of(tid: int) -> Closer:
    """Name a thread."""
    return Closer(tid, tid, f"process {tid}", f"thread {tid}")


def told(*events: TraceEvent, died: Death | None = None) -> list[Close]:
    """Return what some events tell."""
    join = Join(CLOCK, name_of)
    closes = list(join.ended(Fold().feed(events)))
    return closes + list(join.died([died or death()]))


def verdict(*events: TraceEvent, died: Death | None = None) -> tuple[Any, Any, Any]:
    """Return (first, how, why) of the one end that some events tell."""
    (close,) = told(*events, died=died)
    return close.first, close.how, close.why


E, FW1, FW2, CW = State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE_WAIT
LA, CL, SYN, CG = State.LAST_ACK, State.CLOSE, State.SYN_SENT, State.CLOSING
BORN: Final = change(0, State.SYN_RECV, E, SOFTIRQ)


def test_an_active_close_has_its_process_its_life_and_its_idle_time() -> None:
    (close,) = told(
        BORN,
        change(5000, E, FW1, tid=42),
        change(5040, FW2, CL, SOFTIRQ, tid=99),
        gone(5040),
        died=death(traffic=traffic(last_sent=5030, last_received=4040, acked=7, sent=6, resent=0)),
    )
    assert (close.first, close.how, close.why) == (ClosedBy.HERE, How.FIN, Why.CLOSE)
    assert close.closer == name_of(42)
    assert (close.opened, close.lived, close.older) == (Opened.IN, 5.0, False)
    assert close.idle == pytest.approx(4.0)
    assert (close.local, close.local_port) == ("10.0.0.1", 80)
    assert (close.remote, close.remote_port) == ("10.0.0.2", 4000)
    assert (close.sent, close.rtt, close.close_wait) == (6, 0.0005, None)
    assert close.ended_at == pytest.approx(1e9 + 5.04)


def test_a_passive_close_has_the_time_in_close_wait() -> None:
    (close,) = told(
        change(0, SYN, E, SOFTIRQ),
        change(1000, E, CW, SOFTIRQ, tid=99),
        change(4000, CW, LA, tid=42),
        change(4001, LA, CL, SOFTIRQ, tid=99),
        gone(4001),
        died=death(traffic=traffic(received=11)),
    )
    assert (close.first, close.how, close.why) == (ClosedBy.PEER, How.FIN, Why.CLOSE)
    assert (close.close_wait, close.opened, close.closer) == (3.0, Opened.OUT, name_of(42))
    assert close.received == 10  # the FIN is not data


def test_a_connection_older_than_the_trace_has_a_lower_bound_of_its_life() -> None:
    (close,) = told(change(3000, E, FW1), change(3001, FW2, CL, SOFTIRQ), gone(3001))
    assert (close.lived, close.older, close.opened) == (3.0, True, None)


RESET_OUT: Final = ResetSent(20 * MS, 1, "TCP_ABORT_ON_CLOSE")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([change(9, E, CL), RESET_OUT], (ClosedBy.HERE, How.RST, Why.UNREAD)),
        (
            [ResetReceived(9 * MS, 1), change(9, E, CL, SOFTIRQ)],
            (ClosedBy.PEER, How.RST, Why.RESET),
        ),
        # A RST from the backlog is worked on in the task that holds the socket.
        ([ResetReceived(9 * MS, 1), change(9, E, CL, TASK)], (ClosedBy.PEER, How.RST, Why.RESET)),
        (
            [change(9, E, CW, SOFTIRQ), change(12, CW, CL), RESET_OUT],
            (ClosedBy.PEER, How.FIN_RST, Why.UNREAD),
        ),
        (
            [change(9, E, FW1), ResetReceived(9 * MS, 1), change(9, FW1, CL, SOFTIRQ)],
            (ClosedBy.HERE, How.FIN_RST, Why.RESET),
        ),
        (
            [change(9, E, FW1), change(9, FW1, CL, SOFTIRQ)],
            (ClosedBy.HERE, How.TIMEOUT, Why.FIN_UNANSWERED),
        ),
        ([change(9, E, CL, SOFTIRQ)], (ClosedBy.HERE, How.TIMEOUT, Why.NO_ANSWER)),
        (
            [ResetSent(9 * MS, 1, "TCP_KEEPALIVE_TIMEOUT"), change(9, E, CL, SOFTIRQ)],
            (ClosedBy.HERE, How.TIMEOUT, Why.KEEPALIVE),
        ),
        (
            [change(9, E, FW1), change(9, FW1, CG, SOFTIRQ), change(9, CG, CL, SOFTIRQ)],
            (ClosedBy.BOTH, How.FIN, Why.CLOSE),
        ),
        (
            [change(9, E, CL), ResetSent(9 * MS, 1, "MPTCP_RST_EMPTCP")],
            (ClosedBy.HERE, How.RST, Why.ABORT),
        ),
    ],
)
def test_each_end_is_told(events: list[TraceEvent], expected: tuple[Any, ...]) -> None:
    assert verdict(BORN, *events, gone(30)) == expected


def test_a_rst_that_leaves_after_the_socket_counts() -> None:
    late = ResetSent(31 * MS, 1, "TCP_ABORT_ON_DATA")
    events = (BORN, change(9, E, FW1), change(30, FW2, CL, SOFTIRQ), gone(30), late)
    assert verdict(*events) == (ClosedBy.HERE, How.FIN_RST, Why.LATE_DATA)


@pytest.mark.parametrize(("before", "crossed"), [(FW1, True), (FW2, False)])
def test_data_that_came_before_our_fin_was_acknowledged_crossed_it(
    before: State, crossed: bool
) -> None:
    late = ResetSent(29 * MS, 1, "TCP_ABORT_ON_DATA")
    (close,) = told(BORN, change(9, E, FW1), late, change(30, before, CL, SOFTIRQ), gone(30))
    assert (close.why, close.crossed) == (Why.LATE_DATA, crossed)


def test_before_linux_6_10_the_reason_of_a_rst_is_seen_in_what_is_left() -> None:
    events = (BORN, change(9, E, CL), ResetSent(9 * MS, 1, ""), gone(9, TASK))
    assert verdict(*events, died=death(unread=5))[2] is Why.UNREAD
    assert verdict(*events, died=death(remote_port=0))[2] is Why.LINGER
    assert verdict(*events)[2] is Why.ABORT
    dead = (BORN, ResetSent(9 * MS, 1, ""), change(9, E, CL, SOFTIRQ), gone(9))
    assert verdict(*dead, died=death(traffic=traffic(probes=3)))[2] is Why.KEEPALIVE


def test_what_a_dying_process_closes_is_its_exit() -> None:
    close = (change(9, E, FW1, tid=42), change(9, FW2, CL, SOFTIRQ), gone(9))
    ends = ThreadEnds(8 * MS, "worker", 42)
    assert verdict(BORN, ends, *close)[2] is Why.EXIT
    assert verdict(BORN, Killed(8 * MS, 42), ends, *close)[2] is Why.KILLED
    assert verdict(BORN, ThreadEnds(8 * MS, "other", 43), *close)[2] is Why.CLOSE
    (reset,) = told(BORN, ends, change(9, E, CL, tid=42), RESET_OUT, gone(9))
    assert (reset.why, reset.dying) == (Why.UNREAD, True)


def test_a_shutdown_is_told_from_a_close() -> None:
    begun = (BORN, change(9, E, FW1))
    still_open = (change(20, FW2, CL, SOFTIRQ), gone(50, TASK))
    assert verdict(*begun, *still_open)[2] is Why.SHUTDOWN
    closed_between = (change(15, FW2, FW2), change(20, FW2, CL, SOFTIRQ), gone(20))
    assert verdict(*begun, *closed_between)[2] is Why.SHUTDOWN
    from_backlog = (change(9, FW2, CL, TASK), gone(9, TASK))
    assert verdict(*begun, *from_backlog)[2] is Why.CLOSE


def test_what_nobody_accepted_ends_with_its_listener() -> None:
    listener = change(8, State.LISTEN, CL, sk=9, tid=42)._replace(remote_port=0)
    child = (change(9, E, CL, tid=42), ResetSent(9 * MS, 1, "TCP_STATE"), gone(9, TASK))
    assert verdict(BORN, listener, *child)[2] is Why.NEVER_ACCEPTED
    other = (change(9, E, CL, tid=43), ResetSent(9 * MS, 1, "TCP_STATE"), gone(9, TASK))
    assert verdict(BORN, listener, *other, died=death(remote_port=0))[2] is Why.LINGER
    over = (BORN, listener, gone(8, TASK, sk=9), *child)
    join = Join(CLOCK, name_of)
    ((_, track),) = Fold().feed(over)
    assert join.tell(track, gone(9), death(remote_port=0)).why is Why.LINGER


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            [ResetReceived(9 * MS, 1), change(9, SYN, CL, SOFTIRQ)],
            (ClosedBy.PEER, How.RST, Why.REFUSED),
        ),
        ([change(9, SYN, CL, SOFTIRQ)], (ClosedBy.HERE, How.TIMEOUT, Why.SYN_UNANSWERED)),
        ([change(9, SYN, CL, TASK)], (ClosedBy.HERE, None, Why.GIVEN_UP)),
    ],
)
def test_a_connect_that_fails_is_told_with_the_process(
    events: list[TraceEvent], expected: tuple[Any, ...]
) -> None:
    (close,) = told(*events, gone(10, TASK, tid=42), died=death(remote_port=0))
    assert (close.first, close.how, close.why) == expected
    assert (close.opened, close.lived, close.sent) == (Opened.OUT, None, None)
    assert close.closer is not None
    assert close.remote_port == 4000  # the announcement has forgotten it


def test_where_events_are_lost_the_last_state_still_tells_who_was_first() -> None:
    for last, first in ((FW2, ClosedBy.HERE), (LA, ClosedBy.PEER), (CG, ClosedBy.BOTH)):
        assert verdict(change(9, last, CL, SOFTIRQ), gone(9))[:2] == (first, How.FIN)


def test_another_socket_at_the_same_address_is_another_connection() -> None:
    stale = (BORN, change(5, E, FW1))  # its end was lost, and the next one's beginning
    later = (change(9, E, CW, SOFTIRQ, port=81), change(9, CW, LA, port=81))
    (close,) = told(*stale, *later, change(9, LA, CL, SOFTIRQ, port=81), gone(9))
    assert (close.first, close.older) == (ClosedBy.PEER, True)


def test_a_last_ack_that_never_comes_is_a_timeout() -> None:
    events = (BORN, change(5, E, CW, SOFTIRQ), change(6, CW, LA), change(999, LA, CL, SOFTIRQ))
    gave_up = death(traffic=traffic(retransmits=8))
    assert verdict(*events, gone(999), died=gave_up)[1:] == (How.TIMEOUT, Why.FIN_UNANSWERED)
    assert verdict(*events, gone(999))[1] is How.FIN


def test_the_two_halves_join_in_either_order_and_only_once() -> None:
    finished = Fold().feed([BORN, change(9, E, CL), RESET_OUT, gone(9)])
    join = Join(CLOCK, name_of)
    assert list(join.died([death(), death(999)])) == []
    assert len(list(join.ended(finished))) == 1
    assert [d.cookie for d in join.untold(MS)] == [999]
    assert join.untold(1 << 62) == []
    assert list(join.ended(finished)) == []
    assert join.unannounced(9 * MS) == []
    assert len(join.unannounced(10 * MS)) == 1
    alone = Join(CLOCK, name_of, deaths_matter=False)
    assert len(list(alone.ended(finished))) == 1


def test_an_open_descriptor_is_told_once() -> None:
    fold, join = Fold(), Join(CLOCK, name_of)
    assert fold.feed([BORN, ResetReceived(5 * MS, 1), change(5, E, CL, SOFTIRQ)]) == []
    assert fold.still_open(5 * MS) == []
    (track,) = fold.still_open(6 * MS)
    assert join.tell(track, None, None).open
    assert fold.still_open(1 << 62) == []
    finished = fold.feed([gone(9000, TASK)])
    assert [*join.ended(finished), *join.died([death()])] == []
    assert join.untold(1 << 62) == []


LIFE: Final = {
    E: (FW1, CW, CL), FW1: (FW1, FW2, CG, CL), FW2: (FW2, CL), CW: (LA, CL), LA: (CL,), CG: (CL,),
}  # fmt: skip


@given(st.integers(0, 1 << 32), st.integers(0, 12))
def test_any_life_is_told_once_whatever_is_lost(seed: int, lost: int) -> None:
    chance = random.Random(seed)
    events: list[TraceEvent] = []
    sockets = range(1, 9)
    for sk in sockets:
        state, at = E, sk
        events.append(change(at, State.SYN_RECV, E, SOFTIRQ, sk, sk))
        while state is not CL:
            after = chance.choice(LIFE[state])
            at += chance.randrange(1, 5)
            if chance.random() < 0.1:
                events.append(ResetReceived(at * MS, sk))
            events.append(change(at, state, after, chance.choice((TASK, SOFTIRQ)), sk, sk))
            state = after
        events.append(gone(at + 1, chance.choice((TASK, SOFTIRQ)), sk, sk))
    ends = {e.sk: e for e in events if isinstance(e, StateChange) and e.new == CL}
    kept = [e for e in events if e in ends.values() or isinstance(e, SocketGone)]
    rest = [e for e in events if e not in kept]
    kept += rest[lost:]
    kept.sort(key=lambda e: (e.at, isinstance(e, SocketGone)))
    join = Join(CLOCK, name_of)
    closes = list(join.ended(Fold().feed(kept)))
    closes += list(join.died([death(sk * 100) for sk in sockets]))
    assert len(closes) == len(sockets)
    for close in closes:
        assert close.first is not None
        assert close.how is not None
        assert close.lived is None or close.lived >= 0


def test_bytes_leave_out_syn_fin_and_what_was_sent_twice() -> None:
    assert bytes_sent(traffic(acked=102, sent=100, resent=0), Opened.OUT) == 100
    assert bytes_sent(traffic(acked=101, sent=150, resent=50), Opened.IN) == 100
    assert bytes_sent(traffic(acked=51, sent=100, resent=0), Opened.OUT) == 50
    assert bytes_sent(traffic(acked=51, sent=None, resent=None), Opened.OUT) == 50
    assert bytes_sent(traffic(acked=0, sent=10, resent=0), Opened.OUT) == 0


def test_idle_time_ends_where_the_first_close_begins() -> None:
    ages = traffic(last_sent=5000, last_received=5100)
    assert idle_before(ages, 40) == pytest.approx(4.96)
    assert idle_before(ages, 5004) == 0.0
    assert idle_before(ages, 6000) is None  # data after the close hides what was before
    # The peer's alone does not: a request that met our FIN.
    assert idle_before(traffic(last_sent=5000, last_received=1000), 3000) == 2.0
    assert idle_before(traffic(last_sent=1000, last_received=5000), 3000) is None


def test_addresses_are_read_as_people_write_them() -> None:
    assert address_text(bytes(10) + b"\xff\xff" + HERE) == "10.0.0.1"
    assert address_text(bytes(15) + b"\1") == "::1"


# Without trace events.

COUNTED: Final = dict.fromkeys((UNREAD, LINGER, TIMED_OUT, NO_ROOM), 100)


def inferred(
    *remains: Remains, counters: dict[str, int] | None = None
) -> list[tuple[ClosedBy | None, How | None, Why | None]]:
    """Return what is inferred; `counters` by how much they have risen meanwhile."""
    after = {name: 100 + (counters or {}).get(name, 0) for name in COUNTED}
    closes = Inference(CLOCK, COUNTED).tell(remains, after, after)
    assert all(not close.observed for close in closes)
    return [(close.first, close.how, close.why) for close in closes]


def left(state: State | None = None, *, listened: bool = False, **values: Any) -> Remains:
    """Return a dead socket with what it left."""
    return Remains(death(**values), state, listened)


PASSIVE: Final = traffic(acked=12, sent=10, received=6, delivered=3, data_segments_sent=1)


def test_the_row_that_is_left_tells_who_closed_first() -> None:
    here = (ClosedBy.HERE, How.FIN, None)
    assert inferred(left(State.TIME_WAIT), left(State.FIN_WAIT2)) == [here, here]
    assert inferred(left(traffic=PASSIVE)) == [(ClosedBy.PEER, How.FIN, None)]


def test_two_rows_of_one_connection_mean_both() -> None:
    one = left(State.TIME_WAIT)
    other = left(State.TIME_WAIT, local=THERE, local_port=4000, remote=HERE, remote_port=80)
    assert [first for first, *_ in inferred(one, other)] == [ClosedBy.BOTH] * 2
    inference = Inference(CLOCK, COUNTED)
    (first,) = inference.tell([one], COUNTED, COUNTED, [other])
    (second,) = inference.tell([other], COUNTED, COUNTED)
    assert (first.first, second.first) == (ClosedBy.BOTH, ClosedBy.BOTH)


def test_who_opened_shows_in_the_bytes_acknowledged() -> None:
    incoming = left(
        State.TIME_WAIT, traffic=traffic(acked=11, sent=10, delivered=3, data_segments_sent=1)
    )
    outgoing = left(State.TIME_WAIT, traffic=traffic(acked=12, sent=10))
    unclear = death(traffic=traffic(acked=11, sent=10, delivered=2, data_segments_sent=1))
    closes = Inference(CLOCK, {}).tell(
        [incoming, outgoing, Remains(unclear, None, True), Remains(unclear, None, False)]
    )
    opened = [close.opened for close in closes]
    assert opened == [Opened.IN, Opened.OUT, Opened.IN, Opened.OUT]
    assert needs_listener(unclear)
    assert not needs_listener(outgoing.death)
    assert needs_listener(death(remote_port=0))


def test_counters_tell_our_resets_from_the_peers() -> None:
    some = left(listened=True, unread=10, traffic=traffic(received=10))
    assert inferred(some, counters={UNREAD: 1}) == [(None, How.RST, Why.UNREAD)]
    assert inferred(some) == [(ClosedBy.PEER, How.RST, Why.RESET)]
    assert inferred(some, some, counters={UNREAD: 1}) == [(None, How.RST, None)] * 2
    byte = left(listened=True, unread=1, traffic=traffic(received=1))
    assert inferred(byte, counters={UNREAD: 1}) == [(ClosedBy.HERE, How.RST, Why.UNREAD)]


def test_each_count_is_claimed_once() -> None:
    inference = Inference(CLOCK, COUNTED)
    some = left(listened=True, unread=10, traffic=traffic(received=10))
    after = COUNTED | {UNREAD: 101}
    (first,) = inference.tell([some], after, after)
    (second,) = inference.tell([some], after, after)
    assert (first.why, second.why) == (Why.UNREAD, Why.RESET)


def test_what_was_wiped_before_the_end_is_told_as_far_as_it_goes() -> None:
    aborted = left(remote_port=0)
    assert inferred(aborted, counters={LINGER: 1}) == [(ClosedBy.HERE, How.RST, Why.LINGER)]
    assert inferred(aborted) == [(ClosedBy.HERE, How.RST, Why.ABORT)]
    failed = left(remote_port=0, traffic=traffic(min_rtt=NEVER))
    assert inferred(failed) == [(None, None, Why.CONNECT_FAILED)]


def test_late_data_is_told_where_the_counter_leaves_no_other() -> None:
    some = left(traffic=PASSIVE)
    assert inferred(some, counters={LINGER: 1}) == [(ClosedBy.HERE, How.FIN_RST, Why.LATE_DATA)]
    assert inferred(some, some, counters={LINGER: 1}) == [(ClosedBy.PEER, How.FIN, None)] * 2
    aborted = left(remote_port=0)
    assert inferred(aborted, some, counters={LINGER: 1})[1] == (ClosedBy.PEER, How.FIN, None)


def test_timeouts_are_told_from_resets_of_what_was_repeated() -> None:
    lost = left(listened=True, traffic=traffic(retransmits=5, backoff=5))
    dead = left(listened=True, traffic=traffic(probes=3))
    syn = left(traffic=traffic(retransmits=2, min_rtt=NEVER))
    counters = {TIMED_OUT: 3}
    assert inferred(lost, dead, syn, counters=counters) == [
        (ClosedBy.HERE, How.TIMEOUT, Why.NO_ANSWER),
        (ClosedBy.HERE, How.TIMEOUT, Why.KEEPALIVE),
        (ClosedBy.HERE, How.TIMEOUT, Why.SYN_UNANSWERED),
    ]
    assert inferred(lost) == [(ClosedBy.PEER, How.RST, Why.RESET)]


def test_a_full_time_wait_table_leaves_the_first_unknown() -> None:
    some = left(traffic=PASSIVE)
    assert inferred(some, counters={NO_ROOM: 1}) == [(None, How.FIN, None)]


def test_a_socket_without_a_peer_is_no_connection() -> None:
    assert not is_connection(death(traffic=traffic(own_mss=0, min_rtt=NEVER)))
    assert is_connection(death())
    assert is_connection(death(traffic=None))


@given(
    st.lists(
        st.builds(
            Remains,
            st.builds(
                Death,
                at=st.integers(0, 1 << 62),
                cookie=st.integers(0, 99),
                family=st.just(2),
                local=st.just(HERE),
                local_port=st.integers(0, 3),
                remote=st.just(THERE),
                remote_port=st.integers(0, 3),
                interface=st.just(0),
                unread=st.integers(0, 3),
                unacked=st.integers(0, 3),
                traffic=st.none()
                | st.builds(
                    Traffic,
                    **{name: st.integers(0, 3) for name in Traffic._fields if name != "sent"},
                    sent=st.none() | st.integers(0, 3),
                ),
            ),
            st.none() | st.sampled_from(State),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.dictionaries(st.sampled_from(sorted(COUNTED)), st.integers(95, 110)),
)
def test_whatever_is_left_each_is_told_once(remains: list[Remains], after: dict[str, int]) -> None:
    closes = Inference(CLOCK, COUNTED).tell(remains, COUNTED, after)
    assert [(c.local_port, c.remote_port) for c in closes] == [
        (r.death.local_port, r.death.remote_port) for r in remains
    ]
    assert all((c.sent or 0) >= 0 and (c.received or 0) >= 0 for c in closes)


# The summary.


def close(**values: Any) -> Close:
    """Return a close."""
    usual: dict[str, Any] = {
        "ended_at": 0.0,
        "family": 2,
        "local": "10.0.0.1",
        "local_port": 80,
        "remote": "10.0.0.2",
        "remote_port": 4000,
    }
    return Close(**usual | values)


def test_the_summary_counts_by_listener_destination_and_process() -> None:
    summary = Summary()
    web = Closer(1, 1, "web", "web")
    for number in range(23):
        summary.add(
            close(
                first=ClosedBy.HERE,
                how=How.FIN,
                opened=Opened.IN,
                closer=web,
                lived=0.05,
                idle=5.0,
                remote_port=4000 + number,
            )
        )
    for _ in range(7):
        summary.add(close(first=ClosedBy.PEER, how=How.RST, opened=Opened.OUT, remote_port=5432))
    summary.add(close(how=How.TIMEOUT, lived=9.0, older=True))
    total = summary.all
    assert (total.total, total.here, total.peer, total.both, total.unknown) == (31, 23, 7, 0, 1)
    assert (total.resets, total.timeouts) == (7, 1)
    assert total.lived.total == 23  # lower bounds are left out
    assert total.idle.median == (2.0, 5.0)
    ((listener, tally),) = summary.listeners
    assert (listener, tally.here) == (("10.0.0.1", 80), 23)
    ((destination, tally),) = summary.destinations
    assert (destination, tally.resets) == (("10.0.0.2", 5432), 7)
    ((process, tally),) = summary.processes
    assert (process, tally.total) == ("web", 23)


def test_the_summary_stays_small_whatever_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twdiag.analysis.close_summary.MOST_GROUPS", 5)
    summary = Summary()
    for number in range(100):
        summary.add(close(opened=Opened.OUT, remote=f"10.0.1.{number}"))
    assert len(summary.destinations) == 6
    assert summary.destinations[-1][0] is None
    assert sum(tally.total for _, tally in summary.destinations) == 100


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_middle_one_is_in_the_band_that_is_named(ages: list[float]) -> None:
    summary = Summary()
    for age in ages:
        summary.add(close(idle=age))
    spread = summary.all.idle
    assert spread.total == len(ages)
    middle = spread.median
    assert middle is not None
    low, high = middle
    value = sorted(ages)[(len(ages) - 1) // 2]
    assert low <= value
    assert high is None or value <= high
    assert Spread((0,) * (len(MARKS) + 1)).median is None


@given(st.binary(max_size=40))
def test_any_bytes_are_an_end_or_none(raw: bytes) -> None:
    found = end_of(raw)
    if found is not None:
        family = socket.AF_INET6 if ":" in found[0] else socket.AF_INET
        socket.inet_pton(family, found[0])
        assert 0 <= found[1] < 1 << 16


@pytest.mark.parametrize(
    ("address", "port"), [("10.0.0.1", 8080), ("2001:db8::1", 1), ("::", 65535)]
)
def test_an_end_is_read_as_the_kernel_writes_it(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    raw = int(family).to_bytes(2, sys.byteorder) + port.to_bytes(2, "big")
    raw += (bytes(4) + packed) if family is socket.AF_INET6 else packed
    assert end_of(raw.ljust(28, b"\0")) == (address, port)


def test_a_rst_to_data_after_the_close_is_handed_out_once() -> None:
    fold = Fold()
    late = ResetSent(9, 77, "TCP_TIMEWAIT_SOCKET", b"here", b"there")
    fold.feed([late, ResetSent(9, 78, "TCP_STATE"), ResetSent(9, 79, "NOT_SPECIFIED")])
    assert fold.refused() == [late]
    assert fold.refused() == []


def test_requests_are_at_most_as_many_as_segments_of_the_scarcer_direction() -> None:
    assert requests_at_most(None) is None
    assert requests_at_most(traffic(data_segments_in=7, data_segments_sent=3)) == 3
    assert requests_at_most(traffic()) is None  # not counted before Linux 4.6
