"""Readable groups of hosts that are larger, or odder, than a random one."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from twdiag.census import intake as intake_module
from twdiag.model.sockets import Socket
from twdiag.tcp import State

from .reference import SYSCTLS, World

TIME_WAIT = Socket(State.TIME_WAIT, "10.0.0.1", 80, "10.0.0.2", 5000, 3, 59_500)
LIVE = Socket(State.ESTABLISHED, "10.0.0.1", 40001, "10.0.0.2", 443)


def listening(address: str, port: int = 80) -> Socket:
    return Socket(State.LISTEN, address, port, "::" if ":" in address else "0.0.0.0", 0)


def host(number: int) -> str:
    return f"10.{1 + (number >> 16)}.{number >> 8 & 0xFF}.{number & 0xFF}"


@pytest.mark.parametrize("blocks", [False, True])
def test_more_local_addresses_than_a_byte_numbers(blocks: bool) -> None:
    rows = [LIVE._replace(local_address=host(n), inode=n + 1) for n in range(700)]
    rows += [LIVE._replace(local_address=host(n), inode=n + 1) for n in range(100, 340)]
    Random(3).shuffle(rows)
    world = World((), tuple(rows))
    census = world.in_blocks(1) if blocks else world.one_by_one()
    assert len(census.destinations) == 250
    for destination in census.destinations[:240]:
        assert destination.sockets == 2
        assert host(destination.inode - 1) == destination.source
    assert {d.source for d in census.destinations[:240]} == {host(n) for n in range(100, 340)}


def test_local_addresses_beyond_those_numbered_are_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "_ADDRESSES", 3)
    monkeypatch.setattr("twdiag.census.adding_up._texts", lambda intake: _texts(intake, 3))
    rows = tuple(TIME_WAIT._replace(local_address=host(n)) for n in range(9))
    census = World((listening("0.0.0.0"),), rows).one_by_one()
    assert census.servers[0].tally.sockets == census.all.sockets == 9


def _texts(intake: intake_module.Intake, most: int) -> list[str]:
    assert len(intake.numbers) == most
    return [*(f"10.0.0.{n}" for n in range(most)), "?"]


def test_70_000_local_addresses_lose_no_socket() -> None:
    rows = tuple(TIME_WAIT._replace(local_address=host(n)) for n in range(70_000))
    census = World((listening("0.0.0.0"),), rows).in_blocks(0)
    assert [server.tally.sockets for server in census.servers] == [70_000]


def test_a_host_with_very_many_destinations_shows_the_largest() -> None:
    rows = [
        LIVE._replace(local_port=40000 + copy, remote_address=host(n))
        for n in range(400)
        for copy in range(2 if n % 2 else 1)
    ]
    census = World((), tuple(rows)).one_by_one()
    assert [d.sockets for d in census.destinations] == [2] * 200 + [1] * 50
    assert census.left_out == 0
    assert census.by_client.sockets == 600


def test_the_port_of_a_listener_on_another_address_is_no_server_s() -> None:
    outgoing = TIME_WAIT._replace(local_port=40000, remote_port=443)
    census = World((listening("127.0.0.1", 40000),), (outgoing,)).one_by_one()
    assert census.servers == census.destinations == ()
    assert census.all.sockets == 1
    mine = outgoing._replace(local_address="127.0.0.1", remote_address="127.0.0.1")
    (server,) = World((listening("127.0.0.1", 40000),), (outgoing, mine)).one_by_one().servers
    assert (server.tally.sockets, server.clients) == (1, (("127.0.0.1", 1),))


def test_several_listeners_of_one_port_on_different_addresses() -> None:
    listeners = (listening("10.0.0.1"), listening("10.0.0.9"), listening("::1"))
    rows = (
        *[TIME_WAIT] * 3,
        *[TIME_WAIT._replace(local_address="10.0.0.9")] * 2,
        TIME_WAIT._replace(local_address="::1", remote_address="::1"),
    )
    census = World(listeners, rows).one_by_one()
    found = [(s.listener.address, s.closed_first, s.clients) for s in census.servers]
    client = TIME_WAIT.remote_address
    assert found == [
        ("10.0.0.1", 3, ((client, 3),)),
        ("10.0.0.9", 2, ((client, 2),)),
        ("::1", 1, (("::1", 1),)),
    ]


def test_busy_ipv6_clients_are_named_beside_many_ipv4_ones() -> None:
    few = [TIME_WAIT._replace(remote_address=host(n)) for n in range(20)]
    busy = [TIME_WAIT._replace(local_address="::1", remote_address="2001:db8::7")] * 9
    (server,) = World((listening("::"),), (*few, *busy)).one_by_one().servers
    assert server.clients[0] == ("2001:db8::7", 9)
    assert [count for _, count in server.clients] == [9, 1, 1]


def test_of_very_many_closed_connections_the_busiest_clients_are_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake_module, "_ALL_CLIENTS", 1000)
    rows = [TIME_WAIT._replace(remote_address=host(n % 10_000)) for n in range(10_000)]
    rows += [TIME_WAIT._replace(remote_address="10.9.9.9")] * 10_000
    Random(5).shuffle(rows)
    (server,) = World((listening("0.0.0.0"),), tuple(rows)).one_by_one().servers
    assert server.sampled
    ((address, count),) = server.clients
    assert address == "10.9.9.9"
    assert 0.8 < count / 10_000 < 1.2


def test_a_left_over_is_found_beside_thousands_of_other_busy_ports() -> None:
    # A service that went down, on a host whose clients connect to high ports.
    many = [LIVE._replace(local_port=p, remote_port=10250) for p in range(20_000, 21_500)] * 2
    rows = [row._replace(remote_port=10250 + n % 30) for n, row in enumerate(many)]
    rows += [TIME_WAIT._replace(local_port=8080, remote_port=50_000)]
    world = World((), tuple(rows))
    intake = intake_module.Intake((), {**SYSCTLS, "net.ipv4.ip_local_port_range": "20000 30000"})
    for row in world.connected:
        intake.take(row)
    from twdiag.census.adding_up import census_of

    assert [end.port for end in census_of(intake).left_overs] == [8080]


def test_an_mptcp_connection_and_its_subflow_are_one_user_of_a_port() -> None:
    waiting = LIVE._replace(state=State.CLOSE_WAIT, mptcp=True, cookie=3)
    census = World((), (LIVE, waiting)).one_by_one()
    (destination,) = census.destinations
    assert destination.tally.states == {State.ESTABLISHED: 1}
    assert Counter(s.mptcp for s in census.sockets) == {True: 1}


def test_sockets_are_told_apart_by_the_interface_of_link_local_addresses() -> None:
    ends = [
        LIVE._replace(local_address=f"fe80::1%{n}", remote_address=f"fe80::2%{n}") for n in (1, 2)
    ]
    census = World((), (*ends, ends[1])).one_by_one()
    assert {(d.source, d.address): d.sockets for d in census.destinations} == {
        ("fe80::1%1", "fe80::2%1"): 1,
        ("fe80::1%2", "fe80::2%2"): 2,
    }
