"""What looks and ends tell together: idle closes, pauses before another request, lost requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis import idle_watch
from twdiag.analysis.idle_watch import IdleWatch
from twdiag.model.closes import Close, ClosedBy, Closer, How, Opened, Why
from twdiag.model.idling import IdleEnd, Idling, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

HERE, CLIENT = ("10.0.0.1", 8080), ("10.0.0.9", 40000)


def standing(idle: float, received: int, **changes: Any) -> Standing:
    """Return one look at the connection of the client."""
    return Standing(*HERE, *CLIENT, 7, idle, True, received)._replace(**changes)


def closed(idle: float | None = 2.0, **changes: Any) -> Close:
    """Return the end of this connection, which the server here closed first."""
    usual = Close(
        100.0, 2, *HERE, *CLIENT, ClosedBy.HERE, How.FIN, Why.CLOSE, opened=Opened.IN, idle=idle,
        received=50,
    )  # fmt: skip
    return usual._replace(**changes)


def other_end(**changes: Any) -> Close:
    """Return the client's end of it, to which a RST came."""
    usual = Close(
        100.5,
        2,
        *CLIENT,
        *HERE,
        ClosedBy.PEER,
        How.FIN_RST,
        Why.RESET,
        opened=Opened.OUT,
        idle=None,
        unanswered=250,
    )
    return usual._replace(**changes)


def only(watch: IdleWatch) -> Idling:
    """Return what is known of the only listener."""
    (idling,) = watch.watched(10.0).idling
    return idling


def end_of(watch: IdleWatch) -> IdleEnd:
    """Return the only end."""
    (end,) = only(watch).ends
    return end


def test_a_connection_that_the_server_closed_while_idle_is_kept() -> None:
    watch = IdleWatch()
    watch.add(closed(requests=4))
    assert only(watch) == Idling(*HERE, (IdleEnd(100.0, 2.0, "10.0.0.9", requests=4),))


@pytest.mark.parametrize(
    "changes",
    [
        {"idle": None},
        {"idle": 0.04},  # Connection: close, and an acknowledgement that is late
        {"dying": True, "why": Why.EXIT},
        {"first": None},
        {"how": How.RST, "why": Why.UNREAD},
        {"how": How.TIMEOUT, "why": Why.KEEPALIVE},
        {"opened": Opened.OUT},
        {"opened": None},
    ],
    ids=str,
)
def test_any_other_end_is_no_idle_close(changes: dict[str, Any]) -> None:
    watch = IdleWatch()
    watch.add(closed(**changes))
    assert watch.watched(1.0).idling == ()


def test_one_that_the_client_closed_is_the_clients() -> None:
    watch = IdleWatch()
    watch.add(closed(1.5, first=ClosedBy.PEER))
    assert only(watch) == Idling(*HERE, (), (1.5,))


def test_the_last_look_tells_the_idle_time_that_a_close_notify_hides() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 50)], {8080}, 99.25)
    watch.add(closed(0.0))
    assert end_of(watch).idle == 1.95


@pytest.mark.parametrize(
    ("look", "changes"),
    [
        (standing(1.2, 20), {}),  # another request, and its answer right before the close
        (standing(1.2, 50, answered=False), {}),  # an answer that took long
        (standing(0.0, 50), {"ended_at": 99.3}),
        (standing(1.2, 50), {"first": ClosedBy.PEER}),
        (standing(1.2, 50), {"received": None}),
    ],
)
def test_an_answer_right_before_the_close_is_no_idle_time(
    look: Standing, changes: dict[str, Any]
) -> None:
    watch = IdleWatch()
    watch.look([look], {8080}, 99.25)
    watch.add(closed(0.0)._replace(**changes))
    assert [one.ends for one in watch.watched(1.0).idling if one.ends] == []


def test_a_connection_older_than_the_trace_is_known_by_its_listeners_port() -> None:
    watch = IdleWatch()
    watch.look([], {8080})
    watch.add(closed(opened=None))
    assert len(only(watch).ends) == 1


def test_data_after_a_pause_tells_that_the_client_sent_again() -> None:
    watch = IdleWatch()
    for idle, received in ((0.1, 20), (1.1, 20), (0.3, 30), (1.3, 30), (0.2, 50)):
        watch.look([standing(idle, received)], {8080})
    watch.add(closed())
    assert end_of(watch).reused_after == 1.3
    assert only(watch).open_for == 1.3


def test_a_last_request_after_the_last_look_counts_too() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 20)], {8080})
    watch.add(closed(received=40))
    assert end_of(watch).reused_after == 1.2


def test_the_peers_fin_is_no_request() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 50)], {8080})
    watch.add(closed(received=51))
    assert end_of(watch).reused_after is None


def test_a_slow_answer_is_no_pause() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 20, answered=False)], {8080})
    watch.look([standing(0.1, 50)], {8080})
    watch.add(closed())
    assert end_of(watch).reused_after is None
    assert only(watch).open_for is None


def test_a_later_connection_of_the_same_ends_is_another() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 20)], {8080})
    watch.look([standing(0.1, 50, cookie=8)], {8080})
    watch.add(closed())
    assert end_of(watch).reused_after is None


def test_one_that_was_gone_at_the_last_look_is_remembered() -> None:
    watch = IdleWatch()
    watch.look([standing(1.2, 20)], {8080})
    watch.look([], {8080})
    watch.add(closed())
    assert end_of(watch).reused_after == 1.2


def refuse(watch: IdleWatch) -> None:
    """Tell of a RST that answered data for the closed connection."""
    watch.late_data((*HERE, *CLIENT), 100.5)


LOSSES: list[tuple[str, Callable[[IdleWatch], None]]] = [
    ("the client got one", lambda watch: watch.add(other_end())),
    ("and nobody saw the FIN", lambda watch: watch.add(other_end(first=None, how=How.RST))),
    ("both ends tell", lambda watch: (watch.add(other_end()), refuse(watch))[1]),
    ("and in the other order", lambda watch: (refuse(watch), watch.add(other_end()))[1]),
]


@pytest.mark.parametrize("lose", [lose for _, lose in LOSSES], ids=[name for name, _ in LOSSES])
@pytest.mark.parametrize("told_first", [True, False])
def test_a_request_that_met_the_close_is_lost(
    lose: Callable[[IdleWatch], None], told_first: bool
) -> None:
    watch = IdleWatch()
    for step in (
        (lambda w: w.add(closed()), lose) if told_first else (lose, lambda w: w.add(closed()))
    ):
        step(watch)
    assert end_of(watch).lost


@pytest.mark.parametrize(
    "say",
    [
        refuse,  # from another host: nobody sees how much it was
        lambda watch: watch.add(other_end(unanswered=24)),
        lambda watch: watch.add(other_end(unanswered=87)),  # the longest close_notify, and the FIN
        lambda watch: watch.add(other_end(unanswered=None)),
    ],
)
@pytest.mark.parametrize("told_first", [True, False])
def test_late_data_that_may_be_last_words_is_not_said_to_be_a_request(
    say: Callable[[IdleWatch], None], told_first: bool
) -> None:
    watch = IdleWatch()
    steps = [lambda w: w.add(closed()), say]
    for step in steps if told_first else reversed(steps):
        step(watch)
    assert (end_of(watch).lost, end_of(watch).late) == (False, True)


def test_what_is_too_long_for_last_words_is_lost_at_once() -> None:
    watch = IdleWatch()
    watch.add(closed())
    watch.add(other_end(ended_at=100.05))
    assert end_of(watch).lost


def closed_late(received: int, **changes: Any) -> Close:
    """Return the end of a connection whose server reads on after its FIN, as Apache does."""
    return closed(0.3, ended_at=101.5, received=received, peer_last=True, **changes)


def watch_one_close() -> IdleWatch:
    """Return a watch that has seen the connection open and idle, and then closed."""
    watch = IdleWatch()
    watch.look([standing(1.9, 50)], {8080}, 99.0)
    watch.look([], {8080}, 99.25)
    return watch


@pytest.mark.parametrize(("received", "lost", "late"), [(250, True, False), (74, False, True)])
def test_what_a_server_reads_after_its_fin_is_told_by_its_length(
    received: int, lost: bool, late: bool
) -> None:
    watch = watch_one_close()
    watch.add(closed_late(received))
    end = end_of(watch)
    assert (end.lost, end.late) == (lost, late)
    assert end.idle == 2.15  # it was closed at the second look at the latest
    assert end.reused_after is None


def test_a_server_that_waits_for_the_clients_fin_had_closed_before() -> None:
    watch = watch_one_close()
    watch.add(closed(8.0, ended_at=105.1))
    assert end_of(watch).idle == 2.15
    # An announcement comes when the FIN is acknowledged: it tells more than the looks.
    watch = watch_one_close()
    watch.add(closed(2.04, ended_at=99.2))
    assert end_of(watch).idle == 2.04


@pytest.mark.parametrize("changes", [{"peer_last": False}, {"ended_at": 99.3}])
def test_a_last_request_that_was_answered_is_not_late(changes: dict[str, Any]) -> None:
    watch = watch_one_close()
    watch.add(closed_late(250)._replace(**changes))
    assert (end_of(watch).lost, end_of(watch).late) == (False, False)


def test_over_a_long_way_the_answer_to_a_close_takes_longer() -> None:
    watch = IdleWatch()
    watch.add(closed(rtt=0.3))
    refuse(watch)  # 0.5 s after the close
    assert not end_of(watch).late
    watch.late_data((*HERE, *CLIENT), 100.9)
    assert end_of(watch).late


@pytest.mark.parametrize("told_first", [True, False])
def test_last_words_that_crossed_the_fin_are_not_said_to_be_a_request(told_first: bool) -> None:
    watch = IdleWatch()
    ends = [
        closed(how=How.FIN_RST, why=Why.LATE_DATA, crossed=True),
        other_end(ended_at=100.0, unanswered=24),
    ]
    for end in ends if told_first else reversed(ends):
        watch.add(end)
    assert (end_of(watch).lost, end_of(watch).late) == (False, True)


def test_data_that_crossed_the_fin_is_lost() -> None:
    watch = IdleWatch()
    watch.add(closed(how=How.FIN_RST, why=Why.LATE_DATA, crossed=True))
    assert end_of(watch).lost


@pytest.mark.parametrize(
    "say",
    [
        lambda watch: watch.late_data((*HERE, *CLIENT), 100.05),
        lambda watch: watch.add(other_end(ended_at=100.05, unanswered=24)),
        lambda watch: watch.add(other_end(ended_at=100.0, first=None, how=How.RST, unanswered=24)),
    ],
)
@pytest.mark.parametrize("told_first", [True, False])
def test_last_words_in_answer_to_the_close_are_no_request(
    say: Callable[[IdleWatch], None], told_first: bool
) -> None:
    watch = IdleWatch()
    steps = [lambda w: w.add(closed()), say]
    for step in steps if told_first else reversed(steps):
        step(watch)
    assert (end_of(watch).lost, end_of(watch).late) == (False, False)


def test_last_words_that_took_the_closed_socket_with_them_are_no_request() -> None:
    watch = IdleWatch()
    watch.add(closed(how=How.FIN_RST, why=Why.LATE_DATA))
    assert not end_of(watch).lost


def test_a_rst_a_minute_later_answers_a_keepalive_probe() -> None:
    watch = IdleWatch()
    watch.add(closed())
    watch.add(other_end(ended_at=160.5))
    assert not end_of(watch).lost


def test_a_client_that_read_the_end_and_closed_lost_nothing() -> None:
    watch = IdleWatch()
    watch.add(closed())
    watch.add(other_end(how=How.FIN, why=Why.CLOSE, closer=Closer(5, 5, "curl", "curl")))
    assert not end_of(watch).lost
    assert end_of(watch).client == "curl"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_LISTENERS", "_MOST_RECENT"):
        monkeypatch.setattr(idle_watch, name, 5)
    watch = IdleWatch()
    for port in range(50):
        watch.add(closed(local_port=port))
        watch.late_data(("10.0.0.2", port, *CLIENT), 0.0)
    assert len(watch.watched(1.0).idling) == 5
    for n in range(3 * idle_watch.MOST_ENDS):
        watch.add(closed(local_port=0, ended_at=float(n)))
    busiest = max(watch.watched(1.0).idling, key=lambda idling: len(idling.ends))
    assert len(busiest.ends) == idle_watch.MOST_ENDS
    assert busiest.ends[-1].ended_at == 3 * idle_watch.MOST_ENDS - 1


CLOSES = st.builds(
    closed,
    st.none() | st.floats(0, 1e4),
    first=st.none() | st.sampled_from(ClosedBy),
    how=st.none() | st.sampled_from(How),
    why=st.none() | st.sampled_from(Why),
    opened=st.none() | st.sampled_from(Opened),
    remote_port=st.integers(1, 3),
    received=st.none() | st.integers(0, 100),
)
LOOKS = st.lists(
    st.builds(
        standing,
        st.floats(0, 1e4),
        st.integers(0, 100),
        remote_port=st.integers(1, 3),
        answered=st.booleans(),
        cookie=st.integers(1, 2),
    ),
    max_size=3,
)


@given(st.lists(CLOSES | LOOKS, max_size=30))
def test_whatever_comes_each_idle_close_is_told_once(events: list[Close | list[Standing]]) -> None:
    watch = IdleWatch()
    longest = 0.0
    for event in events:
        if isinstance(event, Close):
            watch.add(event)
        else:
            watch.look(event, {8080})
            longest = max([longest, *(one.idle for one in event)])
    ended = [
        e
        for e in events
        if isinstance(e, Close) and e.first is ClosedBy.HERE and e.how in (How.FIN, How.FIN_RST)
    ]
    told = [end for idling in watch.watched(1.0).idling for end in idling.ends]
    assert len(told) <= len(ended)
    for end in told:
        assert end.idle >= 0.2
        assert end.reused_after is None or end.reused_after <= longest
