"""What `twdiag port` says of bind() is what bind() says, in every state and with every option."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import io
import itertools
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import NOBODY, in_child
from twdiag.engine import port as engine
from twdiag.engine.accepting import NotAccepting
from twdiag.engine.binding import Option, PortHolder, PortRole, Verdict, conflicts, judge, overlap
from twdiag.engine.port import examine
from twdiag.errors import SourceRefused
from twdiag.lab.network import enter_private
from twdiag.model.nat import Diversion, Diversions
from twdiag.model.snapshot import Gap, Owner
from twdiag.model.sockets import Socket
from twdiag.render.port import headline, render_json, render_text, to_json
from twdiag.sources.live.sockets.one_port import PortRow, read_port, shows_bound
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OPTION: Final = {Option.REUSEADDR: socket.SO_REUSEADDR, Option.REUSEPORT: socket.SO_REUSEPORT}
SETS: Final = tuple(
    frozenset(options) for size in range(3) for options in itertools.combinations(_OPTION, size)
)
ADDRESSES: Final = (
    ("::", False),
    ("0.0.0.0", False),
    ("::", True),
    ("127.0.0.1", False),
    ("127.0.0.9", False),
    ("::1", False),
)
_ports = itertools.count(7200)


class Made(NamedTuple):
    """A port in a state, and the sockets that keep it so."""

    state: State
    port: int
    kept: tuple[socket.socket, ...]


def made_socket(options: frozenset[Option], family: int = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, _OPTION[option], 1)
    return made


def deafen(one: socket.socket) -> None:
    """Let the kernel drop what arrives for a socket: BPF_RET | BPF_K, 0."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0), 8)
    one.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(program)))


def pair(options: frozenset[Option]) -> tuple[int, socket.socket, socket.socket]:
    """Return a port, with the server's and the client's end of a connection; nobody listens."""
    port = next(_ports)
    with made_socket(options) as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
    return port, accepted, client


def wait_for(port: int, state: State) -> None:
    deadline = time.monotonic() + 10
    while [row.socket.state for row in read_port(port)] != [state]:
        assert time.monotonic() < deadline, read_port(port)
        time.sleep(0.005)


def listening(options: frozenset[Option]) -> Made:
    port, one = next(_ports), made_socket(options)
    one.bind(("127.0.0.1", port))
    one.listen()
    return Made(State.LISTEN, port, (one,))


def bound(options: frozenset[Option]) -> Made:
    port, one = next(_ports), made_socket(options)
    one.bind(("127.0.0.1", port))
    return Made(State.CLOSE, port, (one,))


def established(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    return Made(State.ESTABLISHED, port, (server, client))


def close_wait(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    client.close()
    return Made(State.CLOSE_WAIT, port, (server,))


def fin_wait2_held(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    server.shutdown(socket.SHUT_WR)
    return Made(State.FIN_WAIT2, port, (server, client))


def fin_wait2_orphan(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    server.close()
    return Made(State.FIN_WAIT2, port, (client,))


def time_wait(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    server.shutdown(socket.SHUT_WR)
    client.recv(1)
    wait_for(port, State.FIN_WAIT2)
    server.close()
    client.close()
    return Made(State.TIME_WAIT, port, ())


def fin_wait1(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    deafen(client)
    server.close()
    return Made(State.FIN_WAIT1, port, (client,))


def last_ack(options: frozenset[Option]) -> Made:
    port, server, client = pair(options)
    client.shutdown(socket.SHUT_WR)
    wait_for(port, State.CLOSE_WAIT)
    deafen(client)
    server.close()
    return Made(State.LAST_ACK, port, (client,))


def closing(options: frozenset[Option]) -> Made:
    """Both ends close while neither hears the other; then the server hears the client's FIN."""
    port, server, client = pair(options)
    deafen(client)
    deafen(server)
    server.shutdown(socket.SHUT_WR)
    client.shutdown(socket.SHUT_WR)
    server.setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER: the FIN is sent again
    return Made(State.CLOSING, port, (server, client))


def syn_sent(options: frozenset[Option]) -> Made:
    deaf = socket.create_server(("127.0.0.1", next(_ports)))
    deafen(deaf)
    port, one = next(_ports), made_socket(options)
    one.bind(("127.0.0.1", port))
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        one.connect(deaf.getsockname())
    return Made(State.SYN_SENT, port, (one, deaf))


def outgoing(options: frozenset[Option]) -> Made:
    """An outgoing connection whose port the kernel chose."""
    server = socket.create_server(("127.0.0.1", next(_ports)))
    one = made_socket(options)
    one.connect(server.getsockname())
    return Made(State.ESTABLISHED, one.getsockname()[1], (one, server))


def outgoing_time_wait(options: frozenset[Option]) -> Made:
    server = socket.create_server(("127.0.0.1", next(_ports)))
    one = made_socket(options)
    one.connect(server.getsockname())
    port = one.getsockname()[1]
    accepted, _ = server.accept()
    one.shutdown(socket.SHUT_WR)
    accepted.recv(1)
    wait_for(port, State.FIN_WAIT2)
    one.close()
    accepted.close()
    return Made(State.TIME_WAIT, port, (server,))


MAKERS: Final = (
    listening,
    bound,
    established,
    close_wait,
    fin_wait2_held,
    fin_wait2_orphan,
    time_wait,
    fin_wait1,
    last_ack,
    closing,
    syn_sent,
    outgoing,
    outgoing_time_wait,
)


def real_bind(address: str, v6only: bool, port: int, options: frozenset[Option]) -> bool:
    """Return whether the kernel lets a socket with these options bind and listen."""
    with made_socket(options, socket.AF_INET6 if ":" in address else socket.AF_INET) as new:
        if ":" in address:
            new.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        try:
            new.bind((address, port))
            new.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


class Seen(NamedTuple):
    """One port: what was looked at, and what bind() said by (address, options, same user)."""

    state: State
    old: frozenset[Option]
    rows: list[PortRow]
    binds: dict[tuple[tuple[str, bool], frozenset[Option], bool], bool]


def in_private(work: Callable[[], Any]) -> Any:
    """Return what some work returns in a private namespace; skip where there can be none."""

    def do() -> Any:
        try:
            enter_private()
        except SourceRefused as error:
            return error
        return work()

    result = in_child(do)
    if isinstance(result, SourceRefused):
        pytest.skip(f"{result.what}; {result.next_step}")
    return result


@contextlib.contextmanager
def another_user() -> Iterator[bool]:
    """Make sockets as nobody, where there is one."""
    try:
        os.seteuid(NOBODY)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.seteuid(0)


def try_everything(maker: Callable[[frozenset[Option]], Made]) -> list[Seen]:
    seen = []
    for old in SETS:
        made = maker(old)
        wait_for(made.port, made.state)
        rows = read_port(made.port)
        binds = {
            (address, new, True): real_bind(*address, made.port, new)
            for address in ADDRESSES
            for new in SETS
        }
        with another_user() as other:
            for address, new in itertools.product(ADDRESSES if other else (), SETS):
                binds[address, new, False] = real_bind(*address, made.port, new)
        seen.append(Seen(made.state, old, rows, binds))
    return seen


@pytest.fixture(scope="module")
def trials() -> dict[str, list[Seen]]:
    """Every maker's ports with every old option, tried with every new option and address."""
    # Each in a namespace of its own: connect() could choose a port that another one left behind.
    return {maker.__name__: in_private(lambda m=maker: try_everything(m)) for maker in MAKERS}


@pytest.mark.parametrize("name", [maker.__name__ for maker in MAKERS])
def test_the_table_of_conflicts_is_the_kernels(name: str, trials: dict[str, list[Seen]]) -> None:
    for seen in trials[name]:
        (row,) = seen.rows
        at = (row.socket.local_address, bool(row.v6only))
        for (address, new, same_user), succeeded in seen.binds.items():
            mini = row.socket.timer == 3
            conflict = conflicts(seen.state, mini, seen.old, new, same_user)
            expected = overlap(address, at) and conflict
            assert succeeded == (not expected), (seen.old, address, new, same_user)


@pytest.mark.parametrize("name", [maker.__name__ for maker in MAKERS])
def test_no_verdict_is_refuted_by_bind(name: str, trials: dict[str, list[Seen]]) -> None:
    said: dict[tuple[tuple[str, bool], Option], set[bool]] = {}
    verdicts = {}
    for seen in trials[name]:
        holders = engine.holders_of(seen.rows, {})
        for (address, new, _), succeeded in seen.binds.items():
            if len(new) < 2:
                option = next(iter(new), Option.NONE)
                said.setdefault((address, option), set()).add(succeeded)
                verdicts[address, option] = judge(*address, option, holders)
    expected = {
        frozenset({True}): Verdict.FREE,
        frozenset({False}): Verdict.BLOCKED,
        frozenset({True, False}): Verdict.IF_OLD_HAD_IT,
    }
    assert {key: expected[frozenset(outcomes)] for key, outcomes in said.items()} == verdicts


def test_each_state_is_told_with_its_end(trials: dict[str, list[Seen]]) -> None:
    ends = {}
    for name, tried in trials.items():
        (holder,) = engine.holders_of(tried[0].rows, {})
        ends[name] = holder.last_gone
        assert (holder.count, holder.state) == (1, tried[0].state)
    assert {name for name, end in ends.items() if end is None} == {
        *("listening", "bound", "established", "close_wait", "fin_wait2_held"),
        *("syn_sent", "outgoing", "closing"),
    }
    assert all(0 < (ends[name] or 0) <= 64.2 for name in ("time_wait", "outgoing_time_wait"))
    assert 60 < (ends["fin_wait2_orphan"] or 0) <= 124.2
    assert ends["fin_wait1"] == ends["last_ack"] == 205


def test_each_state_fits_80_columns_and_says_what_frees_the_port(
    trials: dict[str, list[Seen]],
) -> None:
    owner = Owner(31_415, "gunicorn", "www-data")
    for name, seen in trials.items():
        rows = seen[0].rows
        report = examine(seen[0].rows[0].socket.local_port, rows, SYSCTLS, _held(rows, owner))
        text = text_of(report)
        assert max(map(len, text.splitlines())) <= 80, name
        held = any(row.socket.inode for row in rows)
        wanted = "stop gunicorn (pid 31415), or have it close the socket" if held else "wait up to "
        assert f" To free it        {wanted}" in text


def _held(rows: list[PortRow], owner: Owner) -> dict[int, tuple[Owner, ...]]:
    return {row.socket.inode: (owner,) for row in rows if row.socket.inode}


def test_one_socket_is_one() -> None:
    one = PortRow(Socket(State.CLOSE_WAIT, "10.0.0.1", 8080, "10.0.0.9", 5, inode=8))
    said = headline(examine(8080, [one], {}))
    assert said == "Port 8080 is blocked by 1 socket without a listener, until it is closed"
    other = PortRow(one.socket._replace(remote_port=6, inode=9))
    assert headline(examine(8080, [one, other], {})).endswith("until they are closed")
    assert "root sees who that is" in text_of(examine(8080, [one], {}))


@pytest.mark.parametrize(
    ("reserved", "command"),
    [("", "40000"), ("8080,39998-39999", "8080,39998-40000"), ("1", "1,40000")],
)
def test_a_port_is_reserved_beside_those_that_are(reserved: str, command: str) -> None:
    name = "net.ipv4.ip_local_reserved_ports"
    text = text_of(examine(40000, [], SYSCTLS | {name: reserved}))
    assert f" To reserve it     sysctl -w {name}={command}\n" in text


def test_commands_go_to_the_namespace_that_was_looked_at() -> None:
    text = text_of(examine(40000, [], SYSCTLS, netns="web 1"))
    assert "twdiag sockets --port 40000 --netns 'web 1'" in text
    assert "sysctl -w" not in text
    assert "ss -Htanp 'sport = :40000'" in text_of(examine(40000, [], SYSCTLS))


def test_bound_sockets_are_seen_and_named(trials: dict[str, list[Seen]]) -> None:
    (holder,) = engine.holders_of(trials["bound"][0].rows, {})
    assert holder.kind is PortRole.BOUND
    (holder,) = engine.holders_of(trials["listening"][0].rows, {})
    assert holder.kind is PortRole.LISTENER


class Families(NamedTuple):
    """Rows and real binds beside one listener of a family."""

    rows: list[PortRow]
    binds: dict[tuple[str, bool], bool]


@pytest.mark.parametrize(
    ("address", "v6only"),
    [("::", False), ("::", True), ("0.0.0.0", False), ("127.0.0.1", False), ("::1", False)],
)
def test_families_meet_as_they_do_for_bind(address: str, v6only: bool) -> None:
    def look() -> Families:
        port = next(_ports)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with made_socket(frozenset(), family) as server:
            if ":" in address:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            server.bind((address, port))
            server.listen()
            binds = {each: real_bind(*each, port, frozenset()) for each in ADDRESSES}
            return Families(read_port(port), binds)

    seen = in_private(look)
    holders = engine.holders_of(seen.rows, {})
    for each, succeeded in seen.binds.items():
        verdict = judge(*each, Option.NONE, holders)
        assert verdict is (Verdict.FREE if succeeded else Verdict.BLOCKED), each
    (holder,) = holders
    assert (holder.address, holder.v6only) == (address, v6only and address == "::")


def test_a_v4_mapped_connection_is_an_ipv4_one() -> None:
    def look() -> tuple[list[PortRow], dict[tuple[str, bool], bool]]:
        port = next(_ports)
        with socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
        ) as server:
            client = socket.create_connection(("127.0.0.1", port))
            accepted, _ = server.accept()
        rows = read_port(port)
        binds = {each: real_bind(*each, port, frozenset()) for each in ADDRESSES}
        accepted.close()
        client.close()
        return rows, binds

    rows, binds = in_private(look)
    assert [row.socket.local_address for row in rows] == ["127.0.0.1"]
    holders = engine.holders_of(rows, {})
    said = {each: judge(*each, Option.NONE, holders) is Verdict.FREE for each in ADDRESSES}
    assert said == binds


def test_the_rows_of_a_port_are_those_of_the_port_alone() -> None:
    def look() -> tuple[list[list[int]], bool | None]:
        servers = [socket.create_server(("127.0.0.1", port)) for port in (7801, 7802, 65535)]
        found = [[r.socket.local_port for r in read_port(p)] for p in (7800, 7801, 7802, 65535, 1)]
        del servers
        return found, shows_bound()

    found, bound_seen = in_private(look)
    assert found == [[], [7801], [7802], [65535], []]
    assert isinstance(bound_seen, bool)


def test_where_no_port_is_free_the_kernel_is_not_said_to_show_less() -> None:
    def reports() -> list[engine.PortReport]:
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")
        taken = [socket.create_server(("0.0.0.0", port)) for port in range(40000, 40004)]
        bound = socket.socket()
        bound.bind(("0.0.0.0", 8080))
        seen = [engine.look(8080), engine.look(8081)]
        del taken
        return seen

    held, free = in_private(reports)
    shown = [holder.kind for holder in held.holders] == [PortRole.BOUND]
    assert [gap.what for gap in held.gaps] == ([] if shown else ["bound"])
    (gap,) = free.gaps
    assert "no port is free here to try" in gap.why


# Pure.


def listener(address: str, *, v6only: bool = False, inode: int = 7, uid: int = 33) -> PortRow:
    return PortRow(Socket(State.LISTEN, address, 8080, "::", 0, inode=inode, uid=uid), v6only)


def gone(state: State, milliseconds: int, remote: int = 1) -> PortRow:
    return PortRow(Socket(state, "10.0.0.1", 8080, "10.0.0.9", remote, 3, milliseconds))


SYSCTLS: Final = {
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.ip_local_reserved_ports": "8000-8100",
    "net.ipv4.ip_unprivileged_port_start": "1024",
}


def text_of(report: engine.PortReport) -> str:
    out = io.StringIO()
    render_text(report, out)
    return out.getvalue()


def test_a_listener_is_the_first_word() -> None:
    owner = Owner(915, "nginx\x1b[31m", "www-data")
    report = examine(8080, [listener("::")], SYSCTLS, {7: (owner,)})
    text = text_of(report)
    assert text.startswith(
        "Port 8080 is taken: nginx\\x1b[31m (pid 915) listens on [::] (IPv4 too)\n"
    )
    assert "\x1b" not in text
    unseen = examine(8080, [listener("0.0.0.0")], SYSCTLS)
    assert headline(unseen) == "Port 8080 is taken: a process of uid 33 listens on 0.0.0.0"


def test_left_overs_are_told_with_their_end() -> None:
    report = examine(8080, [gone(State.TIME_WAIT, ms, ms) for ms in (12_000, 50_000)], {})
    assert report.verdict is Verdict.BLOCKED
    assert headline(report) == (
        "Port 8080 is blocked by 2 sockets without a listener, for up to 54 s more"
    )
    assert "gone within 16 s to 54 s" in text_of(report)
    assert report.ephemeral is None
    assert report.reserved is None


def test_a_free_port_is_free_only_as_far_as_was_seen() -> None:
    assert headline(examine(8080, [], SYSCTLS)) == "Port 8080 is free"
    gap = Gap("bound", "not listed", "", partial=True)
    report = examine(8080, [], SYSCTLS, gaps=[gap])
    assert headline(report) == "Port 8080 is free, as far as this kernel shows"
    assert "not listed" in text_of(report)


@pytest.mark.parametrize(
    ("port", "said", "taken"),
    [
        (80, "outside", False),
        (8080, "outside", False),
        (40000, "inside: connect() can take it", True),
        (40001, "inside, but reserved", False),
    ],
)
def test_the_range_of_connect_is_told(port: int, said: str, taken: bool) -> None:
    sysctls = SYSCTLS | {"net.ipv4.ip_local_reserved_ports": "40001"}
    report = examine(port, [], sysctls)
    assert said in text_of(report)
    assert report.taken_by_connect is taken
    assert ("CAP_NET_BIND_SERVICE" in text_of(report)) is (port == 80)


DOCKER: Final = Diversion("172.17.0.2", 80, connections=7)


@pytest.mark.parametrize(
    ("nat", "head", "lines"),
    [
        (None, "Port 8080 is free", ["not looked at (needs root): nft list ruleset"]),
        (
            Diversions(),
            "Port 8080 is free",
            ["no rule and no tracked connection leads it elsewhere"],
        ),
        (
            Diversions((DOCKER,)),
            "Port 8080 is free, but NAT sends connections to it to 172.17.0.2:80",
            ["arriving connections go to 172.17.0.2:80 (a rule, 7 now)"],
        ),
        (
            Diversions((Diversion(None, 9000, local=True),), 2),
            "Port 8080 is free",
            [
                "connections of this host go to port 9000 here (a rule)",
                "2 rules not understood, perhaps for this port: nft list ruleset | grep -w 8080",
            ],
        ),
        (
            Diversions((Diversion("fd00::2", None, by_rule=False, connections=1),)),
            "Port 8080 is free, but NAT sends connections to it to [fd00::2]:8080",
            ["arriving connections go to [fd00::2]:8080 (no rule found, 1 now)"],
        ),
    ],
)
def test_where_nat_leads_the_connections_is_told(
    nat: Diversions | None, head: str, lines: list[str]
) -> None:
    report = dataclasses.replace(examine(8080, [], SYSCTLS), nat=nat)
    assert headline(report) == head
    told = [line for line in text_of(report).splitlines() if line.startswith(" NAT ")]
    assert len(told) == len(lines)
    assert all(wanted in line for wanted, line in zip(lines, told, strict=True))
    as_json = to_json(report)
    assert as_json["nat"] == (None if nat is None else [one._asdict() for one in nat.found])
    assert as_json["nat_rules_not_understood"] == (None if nat is None else nat.unsure)


def test_a_listener_behind_nat_is_told_that_others_get_its_connections() -> None:
    report = examine(8080, [listener("0.0.0.0")], SYSCTLS)
    told = headline(dataclasses.replace(report, nat=Diversions((DOCKER,))))
    assert told.endswith("on 0.0.0.0, but NAT sends connections to it to 172.17.0.2:80")


STATES: Final = st.sampled_from([state for state in State if state is not State.SYN_RECV])
ROWS: Final = st.builds(
    lambda state, local, remote, timer, expires, inode, v6only: PortRow(
        Socket(state, local, 8080, remote, 9, timer, expires, inode=inode), v6only
    ),
    STATES,
    st.sampled_from(["::", "0.0.0.0", "127.0.0.1", "10.0.0.1", "2001:db8::1"]),
    st.sampled_from(["127.0.0.1", "2001:db8::2"]),
    st.integers(0, 4),
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.none() | st.booleans(),
)


@given(st.lists(ROWS, max_size=30))
def test_whatever_is_there_is_told_on_one_screen_and_as_json(rows: list[PortRow]) -> None:
    report = examine(8080, rows, SYSCTLS)
    assert sum(holder.count for holder in report.holders) == len(rows)
    assert Counter(h.state for h in report.holders for _ in range(h.count)) == Counter(
        row.socket.state for row in rows
    )
    lines = text_of(report).splitlines()
    assert len(lines) <= 36
    out = io.StringIO()
    render_json(report, out)
    told = json.loads(out.getvalue())
    assert told["schema"] == "twdiag-port/1"
    assert (told["verdict"] == "free") == (not rows)


@given(st.lists(ROWS, max_size=8), ROWS)
def test_one_socket_more_never_frees_a_port(rows: list[PortRow], more: PortRow) -> None:
    order = [Verdict.FREE, Verdict.IF_OLD_HAD_IT, Verdict.BLOCKED]

    def verdict(found: list[PortRow], address: tuple[str, bool], option: Option) -> int:
        return order.index(judge(*address, option, engine.holders_of(found, {})))

    for address, option in itertools.product(ADDRESSES, Option):
        assert verdict(rows, address, option) <= verdict([*rows, more], address, option)


def test_holders_of_nothing_are_none() -> None:
    assert engine.holders_of([], {}) == []
    assert PortHolder(PortRole.BOUND, State.CLOSE, "::", 1).last_gone is None


def look_at_inherited() -> tuple[engine.PortReport, str]:
    """Return what is said of a listener that a program has left to its child."""
    enter_private()
    listener = socket.create_server(("127.0.0.1", 8080))
    listener.set_inheritable(True)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        try:
            listener.close()
            wait_for_sleep(child.pid)
            report = look_until_sure()
            return report, written(report)
        finally:
            child.kill()


Work: TypeAlias = "Callable[[socket.socket, Callable[[], None]], object]"


def look_until_sure() -> engine.PortReport:
    """Return the first report that has time enough to tell that nobody accepts, on a busy host."""
    deadline = time.monotonic() + 20
    while (report := engine.look(8080)).unserved is None and time.monotonic() < deadline:
        pass
    return report


def look_at_child(work: Work, *, sure: bool = True) -> tuple[engine.PortReport, str]:
    """Return what is said of a listener while a child sleeps in some work; a client calls.

    The work says when it has come to where it sleeps.
    """
    enter_private()
    listener = socket.create_server(("127.0.0.1", 8080))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        work(listener, lambda: os.close(writing))
        os._exit(0)
    try:
        os.close(writing)
        listener.close()
        with socket.create_connection(("127.0.0.1", 8080)):
            os.read(reading, 1)
            wait_for_sleep(child)
            report = look_until_sure() if sure else engine.look(8080)
            return report, written(report)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def serve_one(listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve one client after the other, as a program with a single thread does."""
    served, _ = listener.accept()
    ready()
    served.recv(1)


def accept_again(listener: socket.socket, ready: Callable[[], None]) -> None:
    served, _ = listener.accept()
    with served:
        ready()
        listener.accept()


def sleep_on(_: socket.socket, ready: Callable[[], None]) -> None:
    ready()
    time.sleep(60)


def stop_itself(_: socket.socket, ready: Callable[[], None]) -> None:
    ready()
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_sleep(pid: int) -> None:
    """Wait until a process sleeps in a system call of its program."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        call = Path(f"/proc/{pid}/syscall").read_text("ascii").split()[0]
        if status == "T":
            return
        if status == "S" and call != "running" and Path(f"/proc/{pid}/comm").exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not come to rest")


def words_of(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def written(report: engine.PortReport) -> str:
    out = io.StringIO()
    render_text(report, out)
    return out.getvalue()


SEES_WAITS: Final = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to see what a process waits for"
)


@SEES_WAITS
def test_a_listener_that_a_child_has_inherited_is_told() -> None:
    report, text = in_child(look_at_inherited)
    assert report.unserved is not None
    assert [owner.name for owner in report.unserved.owners] == ["sleep"]
    assert report.unserved.starter is not None
    assert re.search(
        r"Nobody accepts at this moment no thread of sleep \(pid \d+\) waits for a connection: "
        r"the only thread asleep if it is only a helper of \S+ \(pid \d+\), it has inherited the "
        r"socket from there",
        words_of(text),
    )
    assert [line for line in text.splitlines() if len(line) > 80] == []


@SEES_WAITS
def test_a_server_with_one_thread_that_serves_a_client_is_not_called_stuck() -> None:
    report, text = in_child(lambda: look_at_child(serve_one))
    assert report.unserved is not None
    assert report.unserved.starter is None
    assert re.search(
        r"the only thread in recv\(\) from its client 127\.0\.0\.1:\d+ ", words_of(text)
    )
    assert "stuck" not in text
    assert "inherited" not in text


@SEES_WAITS
def test_a_process_that_does_something_else_is_told_what() -> None:
    report, text = in_child(lambda: look_at_child(sleep_on))
    assert report.unserved is not None
    assert report.unserved.doing == "the only thread asleep"
    assert "inherited" not in text  # it runs its parent's program


@SEES_WAITS
def test_a_stopped_process_is_told_to_be_stopped() -> None:
    report, text = in_child(lambda: look_at_child(stop_itself))
    assert report.unserved is not None
    assert "is stopped by a signal" in words_of(text)


@SEES_WAITS
def test_a_process_that_waits_for_connections_serves_them() -> None:
    report, text = in_child(lambda: look_at_child(accept_again, sure=False))
    assert report.unserved is None
    assert "Nobody accepts" not in text
    assert to_json(report)["unserved"] == []


def test_what_they_do_who_do_not_accept_is_inert_and_fits() -> None:
    evil = Owner(7, "a\x1b[31m", "root")
    instead = NotAccepting((evil, evil), "in recv() from x\x1b" + 30 * " y", evil)
    text = text_of(dataclasses.replace(examine(8080, [], SYSCTLS), unserved=instead))
    assert "\x1b" not in text
    assert "no thread of a\\x1b[31m (pid 7) and 1 more waits" in words_of(text)
    assert [line for line in text.splitlines() if len(line) > 80] == []


# Processes that a reload has replaced.

WORKER: Final = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", 8080))
listener.listen()
print("listens", flush=True)
if "serve" in sys.argv:
    connection, _ = listener.accept()
    print("serves", flush=True)
    sys.stdin.readline()
    listener.close()
    print("listens no more", flush=True)
sys.stdin.read()
"""


def start_worker(*words: str) -> subprocess.Popen[bytes]:
    """Return a process that listens."""
    command = (sys.executable, "-c", WORKER, *words)
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"listens\n"
    return worker


def look_at_reload(*, taken_over: bool) -> tuple[list[str], list[int], str]:
    """Return what is told of a worker that stops listening, with a new one or without."""
    enter_private()
    old = start_worker("serve")
    assert old.stdin is not None
    assert old.stdout is not None
    with socket.create_connection(("127.0.0.1", 8080)):
        assert old.stdout.readline() == b"serves\n"
        time.sleep(0.02)  # processes that start within 10 ms have the same start time
        new = start_worker() if taken_over else None
        before = engine.look(8080).replaced
        old.stdin.write(b"\n")
        old.stdin.flush()
        assert old.stdout.readline() == b"listens no more\n"
        deadline = time.monotonic() + 20  # on a busy host a look may have too little time
        while not (report := engine.look(8080)).replaced and taken_over:
            assert time.monotonic() < deadline
        out = io.StringIO()
        render_text(report, out)
        told = [one["pid"] for one in to_json(report)["old_processes"]]
        expected = [old.pid] if taken_over else []
        for worker in filter(None, (old, new)):
            worker.kill()
            worker.wait()
    assert told == expected
    return [str(one) for one in before], told, out.getvalue()


@SEES_WAITS
def test_an_old_process_that_keeps_connections_after_a_reload_is_told() -> None:
    before, told, text = in_child(lambda: look_at_reload(taken_over=True))
    assert before == []
    assert len(told) == 1
    assert f"(pid {told[0]}) keeps its connections" in " ".join(text.split())
    assert "twdiag explain reload" in " ".join(text.split())


@SEES_WAITS
def test_a_server_that_ends_without_a_new_one_is_no_old_process() -> None:
    before, told, text = in_child(lambda: look_at_reload(taken_over=False))
    assert (before, told) == ([], [])
    assert "Old process" not in text


def look_at_forked() -> list[object]:
    """Return what is told of a server that forks for each connection; its child listens no more."""
    enter_private()
    address = ("127.0.0.1", 8080)
    with socket.create_server(address) as listener, socket.create_connection(address):
        connection, _ = listener.accept()
        ready, done = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            listener.close()
            os.write(ready[1], b"x")
            os.close(done[1])
            os.read(done[0], 1)
            os._exit(0)
        connection.close()
        os.read(ready[0], 1)
        report = engine.look(8080)
        os.close(done[1])
        os.waitpid(child, 0)
        return list(report.replaced)


@SEES_WAITS
def test_a_child_that_serves_one_connection_is_no_old_process() -> None:
    assert in_child(look_at_forked) == []
