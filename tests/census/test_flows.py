"""The groups of a table equal those that a naive count of its rows gives."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from twdiag.census import client_rows as client_rows_module
from twdiag.census import connections as connections_module
from twdiag.census import flows as flows_module
from twdiag.census.flows import Flows, is_loopback, is_mini
from twdiag.census.groups import History
from twdiag.model.? import SocketTable
from twdiag.model.sockets import Socket
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Iterable

MANY = settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
RANGE = {"net.ipv4.ip_local_port_range": "40000 40009"}
V4 = ("127.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3")
V6 = ("::1", "2001:db8::1", "2001:db8::2", "fe80::1%2")
WILD = ("0.0.0.0", "::")
LISTEN_PORTS = (80, 8080, 40000, 40003)
PORTS = (*LISTEN_PORTS, 40001, 40002, 40009, 50000)
CONNECTED = tuple(state for state in State if state not in (State.LISTEN, State.CLOSE))


@dataclass(frozen=True)
class World:
    """Rows and which of them are marked."""

    rows: tuple[Socket, ...]
    v6only: frozenset[int]
    bound: frozenset[int]

    @property
    def table(self) -> SocketTable:
        table = SocketTable.of(self.rows)
        table.v6only, table.bound = set(self.v6only), set(self.bound)
        return table

    @property
    def flows(self) -> Flows:
        return Flows(self.table, RANGE)


def _connection(random: Random) -> Socket:
    family = random.choice([V4, V4, V6])
    state = random.choice([*CONNECTED, State.TIME_WAIT, State.TIME_WAIT, State.FIN_WAIT2])
    timer = 3 if state is State.TIME_WAIT else random.choice([0, 1, 2])
    edges = (0, 1, 1000, 1001, 58_001, 59_000, 59_001, 60_000)
    expires = random.choice([*edges, *(random.randint(0, 60_000) for _ in edges)])
    return Socket(
        state,
        random.choice(family),
        random.choice((80, 80, *PORTS)),
        random.choice(family),
        random.choice((443, 443, 5432)),
        timer,
        expires + 7_200_000 if timer == 2 else expires,
        inode=random.randint(0, 3),
    )


def world_of(seed: int) -> World:
    """Return listeners of every kind, connections in every role, and bound sockets, mixed."""
    random = Random(seed)
    rows: list[tuple[Socket, str]] = []
    for _ in range(random.randint(0, 8)):
        address = random.choice([*V4, *V4, *V6, *WILD, *WILD])
        mark = "v6only" if ":" in address and random.random() < 0.5 else ""
        anywhere = "::" if ":" in address else "0.0.0.0"
        port = random.choice((80, *LISTEN_PORTS))
        rows.append((Socket(State.LISTEN, address, port, anywhere, 0), mark))
    rows += [(_connection(random), "") for _ in range(random.randint(0, 40))]
    for _ in range(random.choice([0, 0, 1, 2])):
        bound = Socket(State.CLOSE, random.choice(V4), random.choice(PORTS), "0.0.0.0", 0)
        rows.append((bound, "bound"))
    random.shuffle(rows)
    marked = {
        mark: frozenset(number for number, row in enumerate(rows) if row[1] == mark)
        for mark in ("v6only", "bound")
    }
    return World(tuple(row for row, _ in rows), **marked)


def worlds() -> st.SearchStrategy[World]:
    """Worlds by their number: dense ones, where a strategy of single choices makes sparse ones."""
    return st.integers(0, 1 << 32).map(world_of)


# The naive count: one row after the other, addresses as text.

Key = tuple[str, int]


def listener_of(world: World, address: str, port: int) -> Key | None:
    """Return the listener that the kernel would give a connection to this address and port."""
    listening = [
        (row.local_address, number)
        for number, row in enumerate(world.rows)
        if row.state is State.LISTEN and row.local_port == port
    ]
    if any(own == address for own, _ in listening):
        return address, port
    if ":" not in address:
        if any(own == "0.0.0.0" for own, _ in listening):
            return "0.0.0.0", port
        if any(own == "::" and number not in world.v6only for own, number in listening):
            return "::", port
        return None
    return ("::", port) if any(own == "::" for own, _ in listening) else None


def is_client(world: World, row: Socket) -> bool:
    """Whether connect() can have chosen the local port."""
    taken = {r.local_port for r in world.rows if r.state is State.LISTEN}
    taken |= {world.rows[number].local_port for number in world.bound}
    return 40000 <= row.local_port <= 40009 and row.local_port not in taken


def naive_history(rows: Iterable[Socket]) -> History:
    seconds, total = [0] * 60, 0
    for row in rows:
        if row.state is State.TIME_WAIT:
            total += 1
            age = 60_000 - row.expires
            if age < 60_000:
                seconds[59 - age // 1000] += 1
    return History(tuple(seconds), total)


def name(flows: Flows, number: int) -> str:
    return flows.table.addresses.text(number)


@MANY
@given(worlds())
def test_each_row_belongs_to_the_side_that_a_naive_look_gives(world: World) -> None:
    flows = world.flows
    assert len(flows.server_side) == len(flows.client_side) == len(world.rows)
    for row, server, client in zip(world.rows, flows.server_side, flows.client_side, strict=True):
        if row.state is not State.CLOSE:  # a bound socket is of neither side
            listener = listener_of(world, row.local_address, row.local_port)
            assert server == (listener is not None)
        assert client == is_client(world, row)


@MANY
@given(worlds())
def test_servers_are_those_of_a_naive_count(world: World) -> None:
    flows = world.flows
    groups: dict[Key, list[Socket]] = {}
    for row in world.rows:
        key = listener_of(world, row.local_address, row.local_port)
        if key and row.state in (State.TIME_WAIT, State.FIN_WAIT1, State.FIN_WAIT2):
            groups.setdefault(key, []).append(row)
    found = {
        (name(flows, server.listener.address), server.listener.port): (
            server.time_wait,
            server.fin_wait1,
            server.fin_wait2,
            server.sockets,
            Counter({name(flows, a): n for a, n in flows.clients_of(server.listener, 99)}),
        )
        for server in flows.servers
    }
    assert found == {
        key: (
            naive_history(rows),
            sum(row.state is State.FIN_WAIT1 for row in rows),
            sum(row.state is State.FIN_WAIT2 for row in rows),
            len(rows),
            Counter(row.remote_address for row in rows),
        )
        for key, rows in groups.items()
    }
    sizes = [server.sockets for server in flows.servers]
    assert sizes == sorted(sizes, reverse=True)


def client_groups(world: World) -> dict[tuple[str, str, int], list[Socket]]:
    groups: dict[tuple[str, str, int], list[Socket]] = {}
    for row in world.rows:
        if is_client(world, row):
            key = (row.local_address, row.remote_address, row.remote_port)
            groups.setdefault(key, []).append(row)
    return groups


@MANY
@given(worlds(), st.integers(0, 4), st.sampled_from([0, 1000, 2000, 60_000, 61_000]))
def test_destinations_are_those_of_a_naive_count(world: World, least: int, delay: int) -> None:
    flows = world.flows
    groups = client_groups(world)
    assert {
        (name(flows, source), name(flows, address), port): count
        for (source, address, port), count in flows.connections.items()
    } == {key: len(rows) for key, rows in groups.items()}
    assert flows.connections_left_out == 0
    found = flows.destinations(least, delay)
    assert {
        (name(flows, d.source), name(flows, d.address), d.port): (
            {state: count for state, count in d.states.items() if count},
            d.sockets,
            d.time_wait,
            d.young,
        )
        for d in found
    } == {
        key: (
            Counter(row.state for row in rows),
            len(rows),
            naive_history(rows),
            sum(
                row.state is State.TIME_WAIT and row.expires > 60_000 - delay and row.expires > 0
                if delay <= 60_000
                else row.state is State.TIME_WAIT
                for row in rows
            ),
        )
        for key, rows in groups.items()
        if len(rows) >= least
    }
    assert [d.sockets for d in found] == sorted((d.sockets for d in found), reverse=True)


@MANY
@given(worlds(), st.integers(0, 3), st.sampled_from([0, 8]))
def test_destinations_are_the_same_however_they_are_counted(
    world: World, at_once: int, few: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_rows_module, "_MOST_FREQUENT", at_once)
        patch.setattr(client_rows_module, "FEW_VALUES", few)
        flows = world.flows
        found, closes = flows.destinations(0), flows.closes
    assert found == world.flows.destinations(0)
    assert closes == world.flows.closes


@MANY
@given(worlds())
def test_live_inodes_are_those_of_live_sockets_to_the_destination(world: World) -> None:
    flows = world.flows
    live = (State.ESTABLISHED, State.SYN_SENT, State.CLOSE_WAIT, State.FIN_WAIT2)
    groups = client_groups(world)
    for destination in flows.destinations(1):
        key = (
            name(flows, destination.source),
            name(flows, destination.address),
            destination.port,
        )
        inodes = [row.inode for row in groups[key] if row.state in live and row.inode]
        assert flows.live_inodes(destination, 99) == inodes
        assert flows.live_inodes(destination, 2) == inodes[:2]


@MANY
@given(worlds())
def test_closes_count_every_time_wait_of_the_namespace(world: World) -> None:
    assert world.flows.closes == naive_history(world.rows)


@MANY
@given(worlds())
def test_client_ports_are_the_distinct_ports_of_each_address(world: World) -> None:
    flows = world.flows
    found = {(name(flows, a), port) for a, ports in flows.client_ports().items() for port in ports}
    assert found == {
        (row.local_address, row.local_port) for row in world.rows if is_client(world, row)
    }
    fixed = [row.local_port != 0 and not 40000 <= row.local_port <= 40009 for row in world.rows]
    assert list(flows.fixed_ports) == fixed


@MANY
@given(worlds(), st.integers(0, 12))
def test_a_host_with_very_many_connections_loses_only_small_destinations(
    world: World, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections_module, "_MANY_ROWS", most)
        patch.setattr(connections_module, "_SAMPLE", 1)
        patch.setattr(client_rows_module, "_SAMPLE", 1)
        patch.setattr(connections_module, "_FEW_SOCKETS", 3)
        flows = Flows(world.table, {"net.ipv4.ip_local_port_range": "40000 40009"})
        patch.setattr(type(flows.budget), "ports", 100)
        naive = {key: len(rows) for key, rows in client_groups(world).items()}
        found = {
            (name(flows, source), name(flows, address), port): count
            for (source, address, port), count in flows.connections.items()
        }
        assert found.items() <= naive.items()
        assert {key for key, count in naive.items() if count >= 3} <= found.keys()
        assert flows.connections_left_out == sum(naive.values()) - sum(found.values())
        largest = flows.destinations(3)
        assert [d.sockets for d in largest] == sorted(
            (count for count in naive.values() if count >= 3), reverse=True
        )


@MANY
@given(worlds())
def test_a_server_with_very_many_clients_names_the_busiest(world: World) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows_module, "_SAMPLE", 4)
        flows = world.flows
        for server in flows.servers:
            every = dict(flows.clients_of(server.listener, 99))
            counts = [count for _, count in flows.clients_of(server.listener, 1)]
            assert sum(every.values()) <= server.sockets
            assert counts == [max(every.values())] or server.sockets >= 8


def test_clients_are_named_where_rows_take_turns_with_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flows_module, "_SAMPLE", 50)
    own = [TIME_WAIT._replace(remote_port=n, remote_address=f"10.0.1.{n % 2}") for n in range(200)]
    other = TIME_WAIT._replace(local_port=40001)
    for rows in (zip([other] * 200, own, strict=True), zip(own, [other] * 200, strict=True)):
        table = [listening("10.0.0.1"), *(row for pair in rows for row in pair)]
        flows = Flows(SocketTable.of(table), RANGE)
        (server,) = flows.servers
        assert [count for _, count in flows.clients_of(server.listener)] == [100, 100]


def test_listening_ports_beyond_those_that_are_numbered() -> None:
    ports = range(1000, 1200)
    rows = [listening("10.0.0.1", port) for port in ports]
    rows += [
        TIME_WAIT._replace(local_port=port, remote_port=n)
        for port in ports
        for n in range(port % 7)
    ]
    flows = World(tuple(rows), frozenset(), frozenset()).flows
    assert {s.listener.port: s.sockets for s in flows.servers} == {
        port: port % 7 for port in ports if port % 7
    }
    for server in flows.servers:
        assert [count for _, count in flows.clients_of(server.listener)] == [server.sockets]


def test_a_host_with_very_many_destinations_shows_the_largest() -> None:
    rows = [
        Socket(State.ESTABLISHED, "10.0.0.1", 40000 + copy, f"10.1.{n // 250}.{n % 250}", 443)
        for n in range(400)
        for copy in range(2 if n % 2 else 1)
    ]
    found = Flows(SocketTable.of(rows), RANGE).destinations(1)
    assert len(found) == 250
    assert [d.sockets for d in found] == [2] * 200 + [1] * 50


def test_more_local_addresses_than_a_byte_numbers() -> None:
    rows = [
        Socket(State.ESTABLISHED, f"10.1.{n // 250}.{n % 250}", 40000, "10.9.9.9", 443)
        for n in range(700)
    ]
    flows = Flows(SocketTable.of(rows), RANGE)
    assert len(flows.connections) == 700
    assert {name(flows, source) for source, _, _ in flows.connections} == {
        row.local_address for row in rows
    }


def test_an_empty_table_has_no_groups() -> None:
    flows = Flows(SocketTable(), {})
    assert (flows.servers, flows.destinations(0), flows.connections) == ([], [], Counter())
    assert flows.closes == History((0,) * 60, 0)
    assert flows.server_side == flows.client_side == b""
    assert flows.client_ports() == {}
    assert flows.find_listener(0, 80) is None


# Cases that the property once missed or that stand for a rule of the kernel.

TIME_WAIT = Socket(State.TIME_WAIT, "10.0.0.1", 80, "10.0.0.2", 5000, 3, 59_500)


def one_server(*rows: Socket, v6only: Iterable[int] = ()) -> list[tuple[str, int]]:
    flows = World(rows, frozenset(v6only), frozenset()).flows
    return [(name(flows, s.listener.address), s.sockets) for s in flows.servers]


def listening(address: str, port: int = 80) -> Socket:
    return Socket(State.LISTEN, address, port, "::" if ":" in address else "0.0.0.0", 0)


def test_a_dual_stack_listener_takes_ipv4() -> None:
    assert one_server(listening("::"), TIME_WAIT) == [("::", 1)]
    assert one_server(listening("::"), TIME_WAIT, v6only=[0]) == []


def test_mapped_rows_are_ipv4_rows() -> None:
    mapped = TIME_WAIT._replace(local_address="::ffff:10.0.0.1", remote_address="::ffff:10.0.0.2")
    assert one_server(listening("::"), mapped, TIME_WAIT) == [("::", 2)]
    assert one_server(listening("::ffff:0.0.0.0"), mapped) == [("0.0.0.0", 1)]


def test_one_copy_without_v6only_makes_a_shared_listener_dual_stack() -> None:
    assert one_server(listening("::"), listening("::"), TIME_WAIT, v6only=[0]) == [("::", 1)]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_most_specific_listener_takes_the_connection(turn: int) -> None:
    listeners = [listening("::"), listening("0.0.0.0"), listening("10.0.0.1")][::turn]
    assert one_server(*listeners, TIME_WAIT) == [("10.0.0.1", 1)]
    other = TIME_WAIT._replace(local_address="10.0.0.9")
    assert one_server(*listeners, other) == [("0.0.0.0", 1)]


def test_the_port_of_a_listener_on_another_address_is_no_server_s() -> None:
    outgoing = Socket(State.TIME_WAIT, "10.77.0.1", 40000, "10.77.0.2", 443, 3, 1000)
    flows = World((listening("127.0.0.1", 40000), outgoing), frozenset(), frozenset()).flows
    assert flows.servers == []
    assert list(flows.server_side) == [1, 0]
    assert flows.budget.blocked == {40000}


def test_copies_of_a_listener_are_one() -> None:
    flows = World((listening("0.0.0.0"),) * 3, frozenset(), frozenset()).flows
    (listener,) = flows.listeners.values()
    assert listener.rows == (0, 1, 2)


def test_an_mptcp_connection_and_its_subflow_are_one_user_of_a_port() -> None:
    subflow = Socket(State.ESTABLISHED, "10.0.0.1", 40001, "10.0.0.2", 443)
    table = SocketTable.of([subflow, subflow._replace(state=State.CLOSE_WAIT)])
    table.mptcp = {1}
    flows = Flows(table, RANGE)
    assert list(flows.connections.values()) == [1]
    (destination,) = flows.destinations(1)
    assert {state for state, count in destination.states.items() if count} == {State.ESTABLISHED}


# Histories.


@given(st.lists(st.integers(0, 50), min_size=60, max_size=60))
@example([0] * 50 + [100] + [0] * 9)
def test_rates_of_a_history(seconds: list[int]) -> None:
    history = History(tuple(seconds), sum(seconds))
    ordered = sorted(seconds[50:])
    assert history.mean == pytest.approx(sum(seconds) / 60)
    assert history.before == pytest.approx(sum(seconds[:50]) / 50)
    assert history.recent == (ordered[4] + ordered[5]) / 2


def test_one_burst_is_no_sustained_rate() -> None:
    assert History((0,) * 59 + (1000,), 1000).recent == 0


def test_loopback_and_mini_sockets() -> None:
    table = SocketTable.of(
        [
            Socket(State.FIN_WAIT2, "127.9.9.9", 1, "::1", 2, 3),
            Socket(State.FIN_WAIT2, "128.0.0.1", 1, "::2", 2, 2),
        ]
    )
    assert [is_loopback(table, number) for number in (*table.src, *table.dst)] == [
        True,
        False,
        True,
        False,
    ]
    assert [is_mini(table, row) for row in (0, 1)] == [True, False]
