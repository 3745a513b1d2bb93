"""CLOSE_WAITs by who holds them: programs, accept queues, and those whose owner is not seen."""

from __future__ import annotations

from tests.made import aged, close_wait, held, listening, view_of
from twdiag.analysis.leaks import leaks
from twdiag.analysis.wanted import EVERYTHING, Wanted
from twdiag.model.snapshot import Owner


def test_workers_of_one_program_are_one_row_whichever_of_them_holds_most() -> None:
    def row(first: int, second: int) -> tuple[object, int]:
        workers = [Owner(pid, "apache2", "www", 9, 1024, parent=800) for pid in (801, 802)]
        owners = {100 + n: (workers[0],) for n in range(first)}
        owners |= {100 + first + n: (workers[1],) for n in range(second)}
        found = leaks(view_of(*close_wait(first + second), owners=owners), EVERYTHING)
        ((key, leak),) = found.items()
        return key, leak.sockets

    assert row(7, 2) == row(2, 7)


def test_what_was_never_accepted_belongs_to_an_accept_queue_and_to_no_process() -> None:
    sockets = [listening(8080), *close_wait(3, inode=0)]
    (leak,) = leaks(view_of(*sockets), EVERYTHING).values()
    assert (leak.name, leak.sockets, leak.why) == (
        "accept queue of port 8080",
        3,
        "never accepted",
    )
    assert leak.pids == ()


def test_an_owner_that_is_not_seen_is_told_by_its_user() -> None:
    (leak,) = leaks(view_of(*close_wait(3)), EVERYTHING).values()
    assert "uid 33" in leak.name
    assert "not visible" in leak.name


def test_sockets_whose_owner_was_not_looked_for_yet_are_left_out() -> None:
    view = view_of(*close_wait(3), owners=held(2, 9, 1024))
    assert [leak.sockets for leak in leaks(view, EVERYTHING, {102}).values()] == [2]


def test_the_age_is_the_least_of_the_oldest() -> None:
    sockets = [*aged(close_wait(2), 30), *aged(close_wait(1, inode=102), 500)]
    (leak,) = leaks(view_of(*sockets, owners=held(3, 9, 1024)), EVERYTHING).values()
    assert leak.age == 500
    (unknown,) = leaks(view_of(*close_wait(3), owners=held(3, 9, 1024)), EVERYTHING).values()
    assert unknown.age is None


def test_only_what_is_asked_for_is_there() -> None:
    view = view_of(*close_wait(3), owners=held(3, 9, 1024))
    for wanted, number in (
        (Wanted(ports=frozenset({8080})), 1),
        (Wanted(ports=frozenset({443})), 0),
        (Wanted(processes=frozenset({"java"})), 1),
        (Wanted(processes=frozenset({"812"})), 1),
        (Wanted(processes=frozenset({"nginx"})), 0),
    ):
        assert len(leaks(view, wanted)) == number


def test_an_ownerless_socket_of_a_moment_is_no_leak_and_an_older_one_is() -> None:
    passing, staying = aged(close_wait(1, inode=5), 0.02), aged(close_wait(2, inode=6), 1.5)
    assert [one.sockets for one in leaks(view_of(*passing, *staying), EVERYTHING).values()] == [2]
    assert leaks(view_of(*passing), EVERYTHING) == {}
    owned = view_of(*passing, owners={5: (Owner(9, "app", "www"),)})
    assert len(leaks(owned, EVERYTHING)) == 1
