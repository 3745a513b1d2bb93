"""What `twdiag sockets` lists is what ss lists, with every filter, by each source and right."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.privately import become_nobody, in_private
from tests.engine.test_port import MAKERS, Made, close_wait, deafen, wait_for
from tests.sources.live.confinement import become_nobody as enter_as_nobody
from tests.sources.live.confinement import can_filter, forbid_netlink, in_child
from tests.sources.live.namespaces.dwellers import dweller
from twdiag.analysis.row import Age, SocketSide
from twdiag.engine.socket_rows import SORTS, SocketRow, ordered
from twdiag.engine.sockets import Listing, SocketsRequest
from twdiag.errors import SourceError, TwdiagError, UsageError
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets.one_port import read_port
from twdiag.tcp import State, parse_state

if TYPE_CHECKING:
    from twdiag.model.snapshot import Gap

Key = tuple[str, int, int, str, str, tuple[int, ...]]
"""State, queues, ends and the processes that hold it: what ss and we both show."""


class Listed(NamedTuple):
    """What one request came to: the rows, and what was not seen."""

    rows: list[SocketRow]
    gaps: list[Gap]
    why_empty: str = ""


def listed(**request: Any) -> Listed | TwdiagError:
    """Return what a request lists in the namespace of this process, or its refusal."""
    try:
        listing = Listing(SocketsRequest(**request))
        rows = list(listing.rows())
    except TwdiagError as error:
        return error
    return Listed(rows, listing.gaps, listing.why_empty)


def make_all() -> list[object]:
    """Make a socket in every state, of IPv4, IPv6 and IPv4 on an IPv6 socket, and keep them."""
    made = [maker(frozenset()) for maker in MAKERS]
    for one in made:
        wait_for(one.port, one.state)
    kept: list[object] = [made, syn_recv()]
    for address in ("::1", "127.0.0.1"):
        server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        client = socket.create_connection((address, server.getsockname()[1]))
        kept.append((server, client, server.accept()))
    return kept


def syn_recv() -> tuple[socket.socket, socket.socket]:
    """Let a client never hear the server's SYN+ACK."""
    server, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
    deafen(client)
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        client.connect(server.getsockname())
    deadline = time.monotonic() + 10
    while not any(row.socket.state is State.SYN_RECV for row in read_port(server.getsockname()[1])):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return server, client


def by_ss() -> Counter[Key]:
    done = subprocess.run(
        ["ss", "-Htanp"], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    found: Counter[Key] = Counter()
    for line in done.splitlines():
        state, recv_q, send_q, local, remote, *rest = line.split(None, 5)
        pids = tuple(sorted({int(n) for n in re.findall(r"pid=(\d+)", " ".join(rest))}))
        known = parse_state(state)
        assert known is not None
        ends = [end.replace("[::ffff:", "").replace("]", "") for end in (local, remote)]
        ends = [end.replace("[", "").replace("*", "0") for end in ends]
        found[(known.name, int(recv_q), int(send_q), ends[0], ends[1], pids)] += 1
    return found


def key_of(row: SocketRow) -> Key:
    one, owners = row.socket, row.owners or ()
    local, remote = (f"{a}:{p}" for a, p in (one[1:3], one[3:5]))
    remote = "0:0" if remote == ":::0" and row.side is SocketSide.LISTENER else remote
    local = local.replace(":::", "0:") if row.side is SocketSide.LISTENER else local
    pids = tuple(sorted(owner.pid for owner in owners))
    return row.state, one.recv_q, one.send_q, local, remote, pids


class Seen(NamedTuple):
    """The same sockets by ss before and after, and by requests of ours."""

    before: Counter[Key]
    after: Counter[Key]
    answers: dict[str, Listed | TwdiagError]

    def __getitem__(self, name: str) -> list[SocketRow]:
        answer = self.answers[name]
        assert isinstance(answer, Listed), answer
        return answer.rows


REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "all": {},
    "proc": {"source": "proc"},
    **{state.name: {"states": (state.name,)} for state in State if state is not State.CLOSE},
    "BOUND": {"states": ("bound",)},
    "closing": {"states": ("close-wait", "TIME-WAIT")},
    "me": {"processes": ("itself", str(os.getpid()))},
    "proc TIME_WAIT": {"states": ("TIME_WAIT",), "source": "proc"},
}


def look() -> Seen:
    from twdiag.lab import kernel

    kernel.set_name("itself")
    kept = make_all()
    before = by_ss()
    answers = {name: listed(**request) for name, request in REQUESTS.items()}
    answers["unprivileged"] = in_child(_as_nobody)
    made = kept[0]
    assert isinstance(made, list)
    port = next(one.port for one in made if isinstance(one, Made) and one.state is State.CLOSE_WAIT)
    answers["port"] = listed(ports=(port,))
    answers["peer"] = listed(peers=(f"127.0.0.0/8:{port}",))
    return Seen(before, by_ss(), answers)


def _as_nobody() -> Listed | TwdiagError:
    become_nobody()
    return listed()


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Sockets in every state in a namespace of their own."""
    if shutil.which("ss") is None:
        pytest.skip("ss is not installed")
    result = in_private(look)
    assert isinstance(result, Seen)
    return result


def test_the_rows_are_those_of_ss(seen: Seen) -> None:
    rows = Counter(key_of(row) for row in seen["all"] if row.state != "BOUND")
    assert seen.before == seen.after
    assert sum(rows.values()) > 20
    assert rows == seen.before


def test_every_state_is_among_them(seen: Seen) -> None:
    wanted = {name for name in State.__members__ if name != "CLOSE"}
    assert {row.state for row in seen["all"]} == {*wanted, "BOUND"}


def test_proc_shows_the_same_rows_but_bound_ones(seen: Seen) -> None:
    def without_backlog(rows: list[SocketRow]) -> Counter[Key]:
        keys = (key_of(row) for row in rows if row.state != "BOUND")
        return Counter((*key[:2], 0 if key[0] == "LISTEN" else key[2], *key[3:]) for key in keys)  # type: ignore[misc]

    assert without_backlog(seen["proc"]) == without_backlog(seen["all"])
    assert all(row.send_q is None for row in seen["proc"] if row.side is SocketSide.LISTENER)
    by_netlink = {row.socket[:5]: (row.side, row.first) for row in seen["all"]}
    assert all(by_netlink[row.socket[:5]] == (row.side, row.first) for row in seen["proc"])


def test_what_proc_does_not_show_is_said_where_it_matters(seen: Seen) -> None:
    def gaps(name: str) -> set[str]:
        answer = seen.answers[name]
        assert isinstance(answer, Listed)
        return {gap.what for gap in answer.gaps}

    assert gaps("proc") == {"tcp-info", "bound", "backlog"}
    assert gaps("proc TIME_WAIT") == gaps("all") == set()


@pytest.mark.parametrize("name", [s.name for s in State if s is not State.CLOSE] + ["BOUND"])
def test_a_state_has_its_rows_and_no_others(name: str, seen: Seen) -> None:
    expected = Counter(row.socket[:5] for row in seen["all"] if row.state == name)
    assert Counter(row.socket[:5] for row in seen[name]) == expected
    assert expected


def test_states_add(seen: Seen) -> None:
    assert len(seen["closing"]) == len(seen["CLOSE_WAIT"]) + len(seen["TIME_WAIT"])


def test_roles_and_who_closed_first(seen: Seen) -> None:
    told = {(row.state, row.first) for row in seen["all"] if row.first}
    assert told == {
        *((state, "here") for state in ("FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT")),
        *((state, "peer") for state in ("CLOSE_WAIT", "LAST_ACK")),
        ("CLOSING", "both"),
    }
    assert {row.side for row in seen["all"]} >= {
        SocketSide.LISTENER,
        SocketSide.BOUND,
        SocketSide.SERVER,
        SocketSide.CLIENT,
    }


def test_ages_and_what_is_left_come_from_timers_and_traffic(seen: Seen) -> None:
    for row in seen["all"]:
        if row.state == "TIME_WAIT":
            assert row.age.low is not None
            assert row.left == pytest.approx(60 - row.age.low)
        elif row.state == "CLOSE_WAIT":
            assert row.age.low is not None
            assert row.left is None
        elif row.state in ("ESTABLISHED", "LISTEN", "SYN_SENT"):
            assert row.age == Age()
    assert sum(row.left is not None for row in seen["FIN_WAIT2"]) >= 1
    assert {row.age.low for row in seen["proc"] if row.state == "CLOSE_WAIT"} == {None}


def test_a_port_is_that_of_either_end_and_a_peer_the_remote_one(seen: Seen) -> None:
    assert {row.state for row in seen["port"]} == {"CLOSE_WAIT", "FIN_WAIT2"}
    (peer,) = seen["peer"]
    assert peer.state == "FIN_WAIT2"


def test_a_process_has_its_sockets_by_name_and_number(seen: Seen) -> None:
    held = [row for row in seen["all"] if row.owners]
    assert held
    assert Counter(map(key_of, seen["me"])) == Counter(map(key_of, held))
    assert {owner.name for row in held for owner in row.owners or ()} == {"itself"}


def test_without_rights_all_rows_are_there_and_unseen_owners_are_said_once(seen: Seen) -> None:
    answer = seen.answers["unprivileged"]
    assert isinstance(answer, Listed)
    keys = Counter(key_of(row)[:5] for row in answer.rows)
    assert keys == Counter(key_of(row)[:5] for row in seen["all"])
    unseen = sum(row.owners is None for row in answer.rows)
    if unseen:  # in a user namespace of our own nobody has our rights
        assert [gap.what for gap in answer.gaps] == ["owners"]
        assert f"the owners of {unseen} sockets are not visible" in answer.gaps[0].why
    assert all(row.owners == () for row in answer.rows if row.state == "TIME_WAIT")


# Refusals.


@can_filter
@pytest.mark.parametrize(("source", "refused"), [("auto", False), ("netlink", True)])
def test_where_netlink_is_refused_proc_is_read_and_that_is_said(source: str, refused: bool) -> None:
    def confined() -> list[str]:
        forbid_netlink(1)
        answer = listed(source=source, states=("TIME_WAIT",))
        return [gap.what for gap in answer.gaps] if isinstance(answer, Listed) else [answer.what]

    (said,) = in_private(confined)
    assert said.startswith("a netlink socket is refused" if refused else "netlink")


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        ({"states": ("nope",)}, "there is no state 'nope'"),
        ({"peers": ("nope",)}, "--peer 'nope' is no address"),
        ({"rules": ("close-wait-leek",)}, "did you mean 'close-wait-leak'"),
        ({"rules": ("sockets-nobody-sees",)}, "no socket table has a row behind"),
        ({"rules": ("misleading-sysctl",)}, "no socket table has a row behind"),
        ({"limits": ("close-wait-age=1",)}, "--limit and --config go with --rule"),
        ({"netns": ("host",), "all_netns": True}, "--netns and --all-netns exclude each other"),
        ({"netns": ("no-such",)}, "no network namespace or container 'no-such'"),
        ({"processes": ("nginx",), "states": ("TIME_WAIT",)}, "--process finds no TIME_WAIT"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_next_step(
    request_: dict[str, Any], what: str
) -> None:
    answer = listed(**request_)
    assert isinstance(answer, UsageError)
    assert what in answer.what
    assert answer.next_step


def test_a_rule_that_could_not_look_is_no_empty_list() -> None:
    answer = in_private(lambda: listed(rules=("close-wait-leak",), source="proc"))
    assert isinstance(answer, SourceError)
    assert answer.what.startswith("close-wait-leak cannot look: ")
    assert answer.next_step


def test_bound_sockets_that_a_source_cannot_show_are_no_empty_list() -> None:
    answer = in_private(lambda: listed(states=("bound",), source="proc"))
    assert isinstance(answer, SourceError)
    assert answer.what == "/proc/net/tcp does not show bound, unconnected sockets"
    both = in_private(lambda: listed(states=("bound", "listen"), source="proc"))
    assert isinstance(both, Listed)
    assert "bound" in [gap.what for gap in both.gaps]


def test_a_rule_judges_now_with_the_limits_given() -> None:
    def leak() -> tuple[list[SocketRow], list[SocketRow], list[SocketRow]]:
        made = [close_wait(frozenset()) for _ in range(3)]
        for one in made:
            wait_for(one.port, one.state)
        rule, limits = ("close-wait-unread",), ("close-wait-age=0", "close-wait-notice=1")
        answers = [
            listed(rules=rule, limits=limits),
            listed(rules=rule, limits=limits, ports=(made[0].port,)),
            listed(rules=rule),
        ]
        assert all(isinstance(answer, Listed) for answer in answers), answers
        found = [answer.rows for answer in answers if isinstance(answer, Listed)]
        return found[0], found[1], found[2]

    now, narrowed, young = in_private(leak)
    assert [row.state for row in now] == ["CLOSE_WAIT"] * 3
    assert len(narrowed) == 1
    assert young == []


def test_an_empty_list_says_why() -> None:
    def empty() -> list[str]:
        kept = socket.create_server(("127.0.0.1", 0))
        from twdiag.lab import kernel

        kernel.set_name("lonely")
        requests: list[dict[str, Any]] = [
            {"rules": ("close-wait-leak",)},
            {"processes": ("lonly",)},
            {"states": ("CLOSE_WAIT",)},
            {"processes": ("lonely",)},
        ]
        answers = [listed(**request) for request in requests]
        kept.close()
        return [answer.why_empty for answer in answers if isinstance(answer, Listed)]

    assert in_private(empty) == [
        "close-wait-leak finds no such socket",
        "no such socket of lonly is visible; did you mean 'lonely'?",
        "no such socket",
        "",
    ]


# Namespaces.


@pytest.mark.parametrize("nobody", [False, True])
def test_each_namespace_has_its_own_rows(nobody: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter")

    def serve() -> object:
        ipv6 = socket.create_server(("::1", 7992), family=socket.AF_INET6)
        return socket.create_server(("127.0.0.1", 7991)), ipv6

    with dweller(serve, nobody=nobody, name="inside") as pid, dweller(serve) as other:
        answer = listed(netns=(str(pid),), ports=(7991,))
        both = listed(netns=(str(pid), str(other), str(pid)), states=("LISTEN",))
        everywhere = listed(all_netns=True, ports=(7991,))
        here = listed(ports=(7991,))
    assert isinstance(answer, Listed)
    assert isinstance(both, Listed)
    assert isinstance(everywhere, Listed)
    assert isinstance(here, Listed)
    (row,) = answer.rows
    assert [owner.pid for owner in row.owners or ()] == [pid]
    assert len(both.rows) == 4
    assert len({row.netns for row in both.rows}) == 2
    pids = {owner.pid for row in everywhere.rows for owner in row.owners or ()}
    assert {pid, other} <= pids
    assert here.rows == []


def test_an_ordinary_user_lists_the_rows_of_his_own_container() -> None:
    """Nobody leaves a user namespace, so a child process streams them."""
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")

    def theirs() -> tuple[list[SocketRow], list[SocketRow]] | None:
        if not enter_as_nobody():
            return None
        with dweller(lambda: socket.create_server(("127.0.0.1", 7991))) as pid:
            one = listed(netns=(str(pid),))
            many = listed(netns=(str(pid), "host"))
        assert isinstance(one, Listed)
        assert isinstance(many, Listed)
        return one.rows, many.rows

    found = in_child(theirs)
    if found is None:
        pytest.skip("this namespace knows no other user")
    one, many = found
    assert [(row.state, row.socket.local_port) for row in one] == [("LISTEN", 7991)]
    assert [owner.name for owner in one[0].owners or ()] == ["dweller"]
    assert key_of(one[0]) in map(key_of, many)


# Order.


def row(number: int, **changes: Any) -> SocketRow:
    one = Socket(State.CLOSE_WAIT, "10.0.0.1", 8080, "10.0.0.9", number)
    made = SocketRow(one, SocketSide.SERVER, "peer", Age(), None, 0, (), None, "host")
    return made._replace(**changes)


AGED: Final = [
    row(1, age=Age(5, 9)),
    row(2),
    row(3, age=Age(70, None)),
    row(4, left=9.0, owners=(Owner(9, "a", "b"),)),
    row(5, left=3.0, owners=None),
]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("age", [3, 1, 2, 4, 5]),
        ("left", [5, 4, 1, 2, 3]),
        ("process", [4, 1, 2, 3, 5]),
        ("peer", [1, 2, 3, 4, 5]),
        (None, [1, 2, 3, 4, 5]),
    ],
)
def test_what_is_not_known_comes_last(sort: str | None, order: list[int]) -> None:
    assert [one.socket.remote_port for one in ordered(AGED, sort, None)] == order


ROWS = st.builds(
    lambda number, low, left, queue: row(
        number, age=Age(low, low), left=left, send_q=queue, owners=(Owner(number, "a", "b"),)
    ),
    st.integers(1, 65535),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 60),
    st.none() | st.integers(0, 9),
)


@given(st.lists(ROWS, max_size=20), st.sampled_from(sorted(SORTS)), st.integers(1, 25))
def test_the_first_of_an_order_are_those_of_the_whole_order(
    rows: list[SocketRow], sort: str, top: int
) -> None:
    assert ordered(rows, sort, top) == list(ordered(rows, sort, None))[:top]
    assert ordered(rows, None, top) == list(ordered(rows, "age", None))[:top]


def test_rows_are_handed_out_as_they_come() -> None:
    taken: list[int] = []

    def source() -> Any:
        for number in range(1, 5):
            taken.append(number)
            yield row(number)

    first = next(iter(ordered(source(), None, None)))
    assert (first.socket.remote_port, taken) == (1, [1])
