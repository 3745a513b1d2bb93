"""Why sockets are not served: told from threads, and never a healthy server called stuck."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.inherited import Inherited
from twdiag.analysis.upstreams import EndNames
from twdiag.analysis.waits import tell_waits
from twdiag.model.findings import Confidence
from twdiag.model.waits import (
    EPOLLET,
    Act,
    Cause,
    Descriptor,
    EndRole,
    EpollSet,
    EpollWatch,
    FdKind,
    OtherSocket,
    ProcessWaits,
    ThreadWait,
    Waits,
)
from twdiag.tcp import State


class Row(NamedTuple):
    state: State
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    recv_q: int = 0


LISTENER = {900: Row(State.LISTEN, "10.0.0.1", 8080, "0.0.0.0", 0)}
UNREAD = {
    inode: Row(State.CLOSE_WAIT, "10.0.0.1", 8080, "10.0.0.9", 40000 + inode, 101)
    for inode in range(1, 6)
}
DRAINED = {inode: row._replace(recv_q=0) for inode, row in UNREAD.items()}
OTHERS = {
    50: Row(State.ESTABLISHED, "10.0.0.1", 50000, "10.0.0.5", 5432),
    60: Row(State.ESTABLISHED, "10.0.0.1", 8080, "10.0.0.8", 40000),
}
NAMES = EndNames(listeners={("10.0.0.1", 8080): "server"})


def socket(inode: int) -> Descriptor:
    return Descriptor(inode, FdKind.SOCKET, inode, f"socket:[{inode}]")


EPOLL = Descriptor(9, FdKind.EPOLL, None, "anon_inode:[eventpoll]")
UPSTREAM = ThreadWait(1, "w", "S", Act.READ, "recvfrom", (socket(50),), still=True)
CLIENT = ThreadWait(1, "w", "S", Act.READ, "recvfrom", (socket(60),), still=True)
FUTEX = ThreadWait(2, "w", "S", Act.FUTEX, "futex", futex=0x1000, still=True)
MUTEX = FUTEX._replace(act=Act.MUTEX)
LOOP = ThreadWait(3, "w", "S", Act.POLL, "epoll_wait", (EPOLL,), still=True)
ACCEPT = ThreadWait(4, "w", "S", Act.ACCEPT, "accept4", (socket(900),), still=True)
RUN = ThreadWait(5, "w", "R", Act.RUN, still=True)
DISK = ThreadWait(6, "w", "D", Act.DISK, channel="nfs_wait_bit_killable", still=True)
CHILD = ThreadWait(9, "w", "S", Act.CHILD, "wait4", child=51, still=True)
ASLEEP = ThreadWait(7, "w", "S", Act.SLEEP, "clock_nanosleep", still=True)
STOPPED = ThreadWait(8, "w", "T", Act.STOPPED, still=True)
STUCK = {
    Cause.UPSTREAM,
    Cause.LOCKED,
    Cause.BUSY,
    Cause.CHILD,
    Cause.DISK,
    Cause.ELSEWHERE,
    Cause.NOT_ACCEPTING,
}


def process(*threads: ThreadWait, watched: tuple[int, ...] = (), **more: object) -> ProcessWaits:
    watches = tuple(EpollWatch(inode, inode, 0x2019) for inode in watched)
    sets = (EpollSet(9, len(watches), watches),) if watched or LOOP in threads else ()
    made = {"epolls": sets, **more}
    return ProcessWaits(915, "server", 33, threads, len(threads), **made)  # type: ignore[arg-type]


def tell(*processes: ProcessWaits, about: dict[int, Row] = UNREAD) -> Waits:
    return tell_waits(processes, about, OTHERS, NAMES)


def cause(*threads: ThreadWait, about: dict[int, Row] = UNREAD, **more: object) -> Cause | None:
    told = tell(process(*threads, **more), about=about).conclusion  # type: ignore[arg-type]
    return told.cause if told else None


def test_the_words_of_the_first_screen() -> None:
    told = tell(process(UPSTREAM, UPSTREAM, UPSTREAM, FUTEX))
    assert told.lines == (
        "3 of 4 threads in recv() from 10.0.0.5:5432 (postgres), "
        "1 in futex() (a lock, or idle); still so 0.1 s later",
        "nobody watches or reads these 5 sockets",
    )
    assert told.conclusion is not None
    assert told.conclusion.sentence == (
        "3 of 4 workers wait for the upstream 10.0.0.5:5432 (postgres), 1 for a lock or for "
        "work: nobody reads these sockets"
    )
    end = told.conclusion.end
    assert end is not None
    assert (end.role, end.address, end.port) == (EndRole.UPSTREAM, "10.0.0.5", 5432)
    assert told.conclusion.confidence is Confidence.INFERRED


def test_all_workers_on_the_upstream_is_observed() -> None:
    told = tell(process(UPSTREAM, UPSTREAM)).conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (Cause.UPSTREAM, Confidence.OBSERVED)


def test_one_that_holds_the_lock_of_the_others() -> None:
    assert cause(UPSTREAM, FUTEX, FUTEX, FUTEX) is Cause.UPSTREAM


def test_a_read_with_a_timeout_is_a_poll_of_one_socket() -> None:
    poll = UPSTREAM._replace(act=Act.POLL, call="poll")
    assert cause(poll, poll) is Cause.UPSTREAM
    assert "in poll() for 10.0.0.5:5432" in tell(process(poll)).lines[0]


@pytest.mark.parametrize("still", [False, None])
def test_a_thread_that_moved_or_was_seen_once_only_waits(still: bool | None) -> None:
    threads = [thread._replace(still=still) for thread in (UPSTREAM, UPSTREAM, UPSTREAM)]
    assert cause(*threads) is None


def test_an_event_loop_with_a_slow_upstream_is_not_stuck() -> None:
    assert cause(LOOP, watched=(1, 2, 3, 4, 5, 50)) is None
    assert cause(LOOP, UPSTREAM, UPSTREAM, watched=(1, 2, 3, 4, 5)) is None


def test_a_helper_beside_a_loop_is_not_the_cause() -> None:
    assert cause(LOOP, UPSTREAM) is Cause.FORGOTTEN


def test_workers_beside_a_loop_are_the_cause() -> None:
    assert cause(LOOP, UPSTREAM, UPSTREAM, UPSTREAM) is Cause.UPSTREAM
    assert cause(ACCEPT, UPSTREAM, UPSTREAM, UPSTREAM) is Cause.UPSTREAM


def test_more_drained_sockets_than_busy_threads_are_forgotten() -> None:
    assert cause(LOOP, UPSTREAM, UPSTREAM, about=DRAINED) is Cause.FORGOTTEN


def test_a_loop_that_forgot() -> None:
    told = tell(process(LOOP, watched=(1,)))
    assert told.watched == 1
    assert told.lines[1] == "1 of these 5 sockets watched or read; nobody looks at the other 4"
    assert told.conclusion is not None
    assert told.conclusion.sentence == ("nobody watches 4 of 5 sockets: forgotten by the program")


def test_more_drained_sockets_than_busy_threads_may_be_queued_behind_them() -> None:
    told = tell(process(LOOP, UPSTREAM, UPSTREAM), about=DRAINED).conclusion
    assert told is not None
    assert told.sentence == (
        "nobody watches any of 5 sockets: forgotten by the program, or queued behind the 2 threads "
        "that wait for 10.0.0.5:5432 (postgres)"
    )


def test_a_server_that_waits_for_the_next_connection_is_not_stuck() -> None:
    assert cause(ACCEPT) is Cause.FORGOTTEN
    assert cause(ACCEPT, ASLEEP) is Cause.FORGOTTEN
    elsewhere = ThreadWait(1, "w", "S", Act.OTHER, "openat", still=True)
    assert cause(ACCEPT, elsewhere) is Cause.ELSEWHERE


def test_a_set_within_the_one_that_is_waited_in_is_watched() -> None:
    watches = tuple(EpollWatch(inode, inode, 0x2019) for inode in UNREAD)
    inner, middle = EpollSet(12, 5, watches), EpollSet(11, 2, (), (12, 9))
    outer = EpollSet(9, 1, (), (11,))
    told = tell(process(LOOP, epolls=(outer, middle, inner)))
    assert (told.watched, told.conclusion) == (5, None)
    assert tell(process(LOOP, epolls=(outer, inner))).parked == 5


def test_a_disarmed_watch_watches_nothing() -> None:
    one_shot = EpollSet(9, 5, tuple(EpollWatch(i, i, 0xC0000000) for i in range(1, 6)))
    assert cause(LOOP, epolls=(one_shot,)) is Cause.FORGOTTEN


def test_a_loop_that_is_elsewhere() -> None:
    told = tell(process(UPSTREAM, watched=(1, 2, 3, 4, 5)))
    assert (told.watched, told.parked) == (0, 5)
    assert told.lines[1] == "an epoll set watches 5 of these 5 sockets, but no thread waits in it"
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.UPSTREAM


def test_a_pool_is_not_called_a_leak() -> None:
    pool = {
        inode: Row(State.CLOSE_WAIT, "10.0.0.1", 40000 + inode, "10.0.0.5", 443, 1)
        for inode in range(1, 4)
    }
    told = tell(process(LOOP), about=pool).conclusion
    assert told is not None
    assert "idle in a pool" in told.sentence


def test_locks() -> None:
    told = tell(process(FUTEX, FUTEX, FUTEX, FUTEX)).conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (Cause.LOCKED, Confidence.INFERRED)
    assert "the same lock" in told.sentence
    assert cause(LOOP, MUTEX, MUTEX) is Cause.LOCKED
    assert cause(LOOP, FUTEX, FUTEX) is Cause.FORGOTTEN


def test_the_threads_of_a_runtime_itself_are_no_workers() -> None:
    pool = [UPSTREAM._replace(name=f"pool-1-thread-{number}") for number in range(3)]
    own = [FUTEX._replace(name=name) for name in ("GC Thread#0", "VM Thread", "java", "Finalizer")]
    told = tell(process(*pool, *own, ACCEPT)).conclusion
    assert told is not None
    assert told.cause is Cause.UPSTREAM
    assert told.sentence.startswith("all 3 workers wait")


def test_idle_workers_of_the_same_pool_are_free_hands() -> None:
    busy = [UPSTREAM._replace(name=f"pool-1-thread-{number}") for number in range(2)]
    idle = [FUTEX._replace(name=f"pool-1-thread-{number}") for number in range(2, 20)]
    assert cause(*busy, *idle, ACCEPT) is not Cause.UPSTREAM


def test_a_master_that_waits_on_a_pipe_is_no_loop() -> None:
    pipe = Descriptor(5, FdKind.PIPE, 7, "pipe:[7]")
    master = process(ThreadWait(9, "m", "S", Act.POLL, "pselect6", (pipe,), still=True))
    told = tell(master, process(UPSTREAM), process(UPSTREAM)).conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (Cause.UPSTREAM, Confidence.OBSERVED)


def test_idle_workers_beside_a_watching_loop_are_idle() -> None:
    assert cause(LOOP, FUTEX, FUTEX, FUTEX, watched=(1, 2, 3, 4, 5)) is None


def test_busy_workers_and_held_ones() -> None:
    assert cause(RUN, RUN) is Cause.BUSY
    assert cause(CLIENT, CLIENT, about=LISTENER) is Cause.BUSY
    assert cause(DISK, DISK, FUTEX) is Cause.DISK


def test_nobody_accepts() -> None:
    told = tell(process(ASLEEP), about=LISTENER)
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.NOT_ACCEPTING
    assert told.lines[1] == "nobody calls accept() on 10.0.0.1:8080"
    assert cause(UPSTREAM, UPSTREAM, about=LISTENER) is Cause.UPSTREAM


def test_a_helper_that_is_halted_beside_a_stuck_server_is_not_the_cause() -> None:
    server = process(UPSTREAM)
    for helper in (process(STOPPED), process(DISK, frozen=True)):
        other = replace(helper, pid=99)
        told = tell(server, other, about=LISTENER).conclusion
        assert told is not None
        assert told.cause is Cause.UPSTREAM
        alone = tell(process(ASLEEP), other, about=LISTENER).conclusion
        assert alone is not None
        assert (alone.cause, alone.pid) == (tell(other, about=LISTENER).conclusion.cause, 99)  # type: ignore[union-attr]


def test_one_worker_of_many_that_accepts_is_enough() -> None:
    told = tell(process(UPSTREAM), process(ACCEPT), about=LISTENER)
    assert told.conclusion is None
    assert told.lines[1] == "a thread waits to accept on 10.0.0.1:8080"


def test_workers_that_wait_for_a_child_each() -> None:
    workers = [process(CHILD._replace(child=pid)) for pid in (51, 52)]
    told = tell(*workers, about=LISTENER)
    assert told.conclusion is not None
    assert (told.conclusion.cause, told.conclusion.confidence) == (Cause.CHILD, Confidence.OBSERVED)
    assert told.conclusion.sentence == (
        "all 2 workers wait for a child process each, pid 51 and 1 more: nobody calls accept()"
    )


def test_a_master_that_waits_for_any_child_is_no_worker() -> None:
    master = process(CHILD._replace(child=-1))
    told = tell(master, process(UPSTREAM), process(UPSTREAM)).conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (Cause.UPSTREAM, Confidence.OBSERVED)
    assert cause(CHILD._replace(child=-1)) is Cause.ELSEWHERE


def test_the_process_to_look_at_is_a_worker_and_not_the_master() -> None:
    pipe = Descriptor(5, FdKind.PIPE, 7, "pipe:[7]")
    master = process(ThreadWait(9, "m", "S", Act.POLL, "pselect6", (pipe,), still=True))
    worker = replace(process(UPSTREAM), pid=916)
    assert tell(master, worker, about=LISTENER).pid == 916
    # Nor where nothing can be concluded.
    moving = replace(process(CLIENT._replace(still=False)), pid=916)
    assert tell(master, moving, about=LISTENER).pid == 916


def test_a_moment_without_a_free_worker_is_told_as_a_moment() -> None:
    moving = UPSTREAM._replace(still=False)
    told = tell(process(moving), about=LISTENER)
    assert told.conclusion is None
    assert told.lines[1] == "no thread waited to accept on 10.0.0.1:8080 at that moment"
    told = tell(process(moving))
    assert told.lines[1] == "0 of these 5 sockets watched or read at that moment"


def test_a_worker_whose_connection_is_gone_was_at_work() -> None:
    gone = CLIENT._replace(targets=(socket(77),), still=False)
    assert cause(CLIENT, gone, about=LISTENER) is None
    assert "in recv(), " in tell(process(gone, CLIENT), about=LISTENER).lines[0] + ", "


def test_idle_threads_of_a_pool_beside_one_that_accepts_are_no_lock() -> None:
    pool = [FUTEX] * 8
    told = tell(process(ACCEPT, *pool), about=DRAINED).conclusion
    assert told is not None
    assert told.cause is Cause.FORGOTTEN
    assert told.sentence.endswith("or in the hands of the 8 threads in futex()")


def test_threads_of_a_runtime_are_not_called_the_programs() -> None:
    whole, part = process(LOOP, watched=(1,)), replace(process(LOOP, watched=(1,)), total=7)
    assert tell(whole).lines[0].startswith("the only thread in epoll_wait()")
    assert tell(part).lines[0].startswith("the program's only thread in epoll_wait()")


def test_a_helper_that_polls_no_socket_is_no_loop() -> None:
    event = Descriptor(8, FdKind.EVENT, None, "anon_inode:[eventfd]")
    helper = LOOP._replace(targets=(event,))
    assert cause(helper, RUN, about=LISTENER) is Cause.BUSY
    assert cause(LOOP, RUN, about=LISTENER) is not Cause.BUSY


def test_threads_that_read_from_the_peer_itself() -> None:
    idle = {60: OTHERS[60]}
    told = tell(process(CLIENT), about=idle).conclusion
    assert told is not None
    assert (told.cause, told.confidence) == (Cause.PEER, Confidence.OBSERVED)
    assert told.end is not None
    assert told.end.role is EndRole.PEER


def test_stopped_traced_frozen() -> None:
    assert cause(STOPPED, STOPPED) is Cause.STOPPED
    held = tell(process(STOPPED._replace(act=Act.TRACED), tracer=77)).conclusion
    assert held is not None
    assert (held.cause, "pid 77" in held.sentence) == (Cause.TRACED, True)
    assert cause(UPSTREAM, frozen=True) is Cause.FROZEN


def test_what_may_not_be_seen_is_no_conclusion() -> None:
    unseen = ThreadWait(1, "w", "S", Act.UNSEEN, still=True)
    told = tell(process(unseen, unseen, denied=True, epolls=None))
    assert told.conclusion is None
    assert told.watched is None
    assert told.lines == ("all 2 threads waiting, for what is not visible; still so 0.1 s later",)


def test_requests_to_io_uring_are_not_seen() -> None:
    assert cause(LOOP, ring=True) is None


def test_nothing_was_seen() -> None:
    told = tell_waits((), UNREAD, {}, NAMES)
    assert (told.lines, told.conclusion, told.watched) == ((), None, None)


THREADS = st.sampled_from(
    [UPSTREAM, CLIENT, FUTEX, MUTEX, LOOP, ACCEPT, RUN, CHILD, DISK, ASLEEP, STOPPED]
)
ABOUT = st.sampled_from([UNREAD, DRAINED, LISTENER, {60: OTHERS[60]}, {}])


@given(st.lists(THREADS, max_size=8), ABOUT, st.sampled_from([False, None]))
def test_nothing_that_moved_is_ever_stuck(
    threads: list[ThreadWait], about: dict[int, Row], still: bool | None
) -> None:
    moved = [thread._replace(still=still) for thread in threads]
    assert cause(*moved, about=about) not in STUCK


@given(st.lists(THREADS, max_size=8), st.sampled_from([UNREAD, DRAINED]))
def test_a_loop_that_watches_everything_is_never_stuck(
    threads: list[ThreadWait], about: dict[int, Row]
) -> None:
    every = tuple(about)
    edge = tuple(EpollWatch(i, i, 0x2019 | EPOLLET) for i in every)
    assert cause(LOOP, *threads, about=about, watched=every) is None
    assert cause(LOOP, *threads, about=about, epolls=(EpollSet(9, 5, edge),)) is None


@given(st.lists(THREADS, max_size=8), ABOUT)
def test_counts_add_up(threads: list[ThreadWait], about: dict[int, Row]) -> None:
    told = tell(process(*threads), about=about)
    assert sum(group.threads for group in told.groups) == told.threads == len(threads)
    assert (told.watched or 0) + (told.parked or 0) <= told.sockets
    assert all("\n" not in line for line in told.lines)


def inherited(shared: int, left: int) -> Inherited:
    return Inherited(
        99, "sleep", 915, shared + left, shared, Confidence.OBSERVED, "sleep inherited"
    )


def told_beside(child: Inherited, *processes: ProcessWaits) -> Waits:
    return tell_waits(processes, UNREAD, OTHERS, NAMES, (child,))


def test_a_child_is_the_cause_where_its_parent_has_closed() -> None:
    told = told_beside(inherited(shared=0, left=5), process(UPSTREAM, UPSTREAM))
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.INHERITED


def test_a_child_is_not_the_cause_where_its_parent_never_closed() -> None:
    helper = replace(process(ASLEEP), pid=99, name="sleep")
    told = told_beside(inherited(shared=5, left=0), process(UPSTREAM, UPSTREAM), helper)
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.UPSTREAM
    assert told.lines[0].startswith("all 2 threads in recv() from 10.0.0.5:5432")
    assert told.lines[-1] == "sleep inherited"


def test_a_child_that_alone_was_seen_is_told_as_one_that_inherited() -> None:
    helper = replace(process(ASLEEP), pid=99, name="sleep")
    told = told_beside(inherited(shared=5, left=0), helper)
    assert told.conclusion is not None
    assert told.conclusion.cause is Cause.INHERITED


DATABASE = OtherSocket("UNIX-STREAM", "", "/run/pg/.s.PGSQL.5432", "postgres, pid 7", True)


def of_others(other: OtherSocket | None, thread: ThreadWait = UPSTREAM) -> Waits:
    """Return what is told of two threads that wait for a socket in no TCP table."""
    targets = (socket(70),)
    names = replace(NAMES, others={70: other} if other else {})
    waiting = thread._replace(targets=targets)
    return tell_waits([process(waiting, waiting)], UNREAD, OTHERS, names)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (DATABASE, "the Unix socket /run/pg/.s.PGSQL.5432 (postgres, pid 7)"),
        (DATABASE._replace(program=""), "the Unix socket /run/pg/.s.PGSQL.5432"),
        (
            OtherSocket("UNIX-STREAM", "/run/fpm.sock", "", "nginx, pid 8", True),
            "a client of the Unix socket /run/fpm.sock (nginx, pid 8)",
        ),
        (OtherSocket("UNIX", "/run/log"), "the Unix socket /run/log"),
        (OtherSocket("UNIX-STREAM", connected=True), "a Unix socket"),
        (OtherSocket("UDP"), "a UDP socket"),
        (OtherSocket("UDPv6"), "a UDP socket"),
        (OtherSocket("NETLINK"), "a netlink socket"),
        (OtherSocket("SCTP"), "a socket of protocol SCTP"),
        (OtherSocket("TCP"), "a socket that no TCP table shows"),
        (OtherSocket("TCPv6"), "a socket that no TCP table shows"),
        (None, "a socket that is not known"),
    ],
)
def test_a_socket_in_no_tcp_table_is_called_what_it_is(
    other: OtherSocket | None, words: str
) -> None:
    assert (
        of_others(other).lines[0] == f"all 2 threads in recv() from {words}; still so 0.1 s later"
    )


@pytest.mark.parametrize("act", [Act.READ, Act.POLL])
def test_a_database_behind_a_unix_socket_is_an_upstream(act: Act) -> None:
    told = of_others(DATABASE, UPSTREAM._replace(act=act)).conclusion
    assert told is not None
    assert told.cause is Cause.UPSTREAM
    assert told.sentence == (
        "all 2 workers wait for the Unix socket /run/pg/.s.PGSQL.5432 (postgres, pid 7): "
        "nobody reads these sockets"
    )


@pytest.mark.parametrize("path", ["/run/dbus/system_bus_socket", "/run/x", "", "/run/mysql.sock/x"])
def test_who_waits_for_another_unix_socket_is_not_blamed(path: str) -> None:
    told = of_others(DATABASE._replace(peer_path=path)).conclusion
    assert told is None or told.cause is not Cause.UPSTREAM


def test_a_path_from_outside_is_made_harmless() -> None:
    told = of_others(OtherSocket("UNIX", "/a\x1b[31m\nb", "", "evil\x1b", True))
    assert not any("\x1b" in line or "\n" in line for line in told.lines)


def test_threads_that_were_not_looked_at_may_watch() -> None:
    told = tell(process(ASLEEP, whole=False))
    assert (told.watched, told.conclusion) == (None, None)
