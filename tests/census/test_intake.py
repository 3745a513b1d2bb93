"""However sockets come in, a census says what a naive count of them gives, in bounded memory."""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twdiag.census import cells as cells_module
from twdiag.census.adding_up import census_of
from twdiag.census.intake import Intake
from twdiag.census.rows import Rows
from twdiag.model.sockets import Socket
from twdiag.tcp import State

from .reference import SYSCTLS, Naive, World, is_kept, summary_of, told, world_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.model.census import Census

MANY = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 1 << 32)


def assert_equal(census: Census, world: World) -> None:
    """Compare a census with the naive count, part by part."""
    naive = Naive(world)
    kept = [row for row in world.connected if is_kept(row)]
    assert Counter(s.cookie for s in census.sockets if s.cookie) == Counter(r.cookie for r in kept)
    assert census.sockets[: len(world.listening)] == world.listening
    assert told(census.all) == summary_of(world.connected)
    assert told(census.by_client) == summary_of(naive.clients)
    assert told(census.fixed) == summary_of(naive.fixed)
    assert census.left_out == 0
    servers = {(s.listener.address, s.listener.port): s for s in census.servers}
    assert len(servers) == len(census.servers)
    assert {end: told(s.tally) for end, s in servers.items()} == {
        end: summary_of(rows) for end, rows in naive.servers.items()
    }
    for end, server in servers.items():
        wanted = naive.top_clients(end)
        assert not server.sampled
        assert [n for _, n in server.clients] == sorted(wanted.values(), reverse=True)[:3]
        assert dict(server.clients).items() <= wanted.items()
    found = {(d.source, d.address, d.port): d for d in census.destinations}
    assert len(found) == len(census.destinations)
    assert {key: told(d.tally) for key, d in found.items()} == {
        key: summary_of(rows) for key, rows in naive.destinations.items()
    }
    for key, destination in found.items():
        live = {r.inode for r in naive.destinations[key] if r.state is State.ESTABLISHED}
        assert destination.inode in (live or {0})
    assert {
        end.port: (end.addresses, end.remote_ports, told(end.tally)) for end in census.left_overs
    } == naive.left_overs
    assert {(a, port) for a, ports in census.ports_by_source.items() for port in ports} == {
        (row.local_address, row.local_port) for row in naive.clients
    }
    assert set(census.examples) == {row.state for row in world.connected}
    assert all(state is example.state for state, example in census.examples.items())


@MANY
@given(SEEDS)
def test_sockets_taken_one_by_one_are_counted_as_a_naive_look_counts(seed: int) -> None:
    world = world_of(seed)
    assert_equal(world.one_by_one(), world)


@MANY
@given(SEEDS, SEEDS)
def test_blocks_are_counted_as_a_naive_look_counts(seed: int, cuts: int) -> None:
    world = world_of(seed)
    assert_equal(world.in_blocks(cuts), world)


@MANY
@given(SEEDS, SEEDS, st.sampled_from([1, 4]), st.integers(1, 20))
def test_loose_rows_are_counted_as_all_others(seed: int, cuts: int, sample: int, most: int) -> None:
    world = world_of(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "_SAMPLE", sample)
        patch.setattr(cells_module, "_MOST_CELLS", most)
        assert_equal(world.in_blocks(cuts), world)


def test_nothing_adds_up_to_nothing() -> None:
    assert_equal(World((), ()).one_by_one(), World((), ()))


def test_a_kept_socket_that_a_dump_repeats_counts_once() -> None:
    waiting = Socket(State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.2", 5000, cookie=7)
    intake = Intake((), SYSCTLS)
    for socket in (waiting, waiting, waiting._replace(cookie=8)):
        intake.take(socket)
    census = census_of(intake)
    assert len(census.sockets) == census.all.states[State.CLOSE_WAIT] == 2


def test_readers_without_cookies_lose_no_socket() -> None:
    waiting = Socket(State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.2", 5000)
    assert World((), (waiting,) * 5).one_by_one().states == {State.CLOSE_WAIT: 5}


# Memory, told by how it grows: what a host of any size costs drops out.

BATCH = 4096
LISTENER = Socket(State.LISTEN, "::", 80, "::", 0)


def destinations_ipv4(first: int, rows: int) -> Rows:
    """Rows of a client, each to an address of its own."""
    return _rows(rows, 33000, 443, array("I", [1] * rows), array("I", range(first, first + rows)))


def destinations_ipv6(first: int, rows: int) -> Rows:
    """The same of IPv6."""
    remote = [n.to_bytes(16, "big") + bytes(4) for n in range(first, first + rows)]
    return _rows(rows, 33000, 443, [bytes(15) + b"\1"] * rows, remote)


def clients_ipv6(first: int, rows: int) -> Rows:
    """Rows of a server, each with a client of its own."""
    remote = [n.to_bytes(16, "big") + bytes(4) for n in range(first, first + rows)]
    return _rows(rows, 80, 50000, [bytes(15) + b"\1"] * rows, remote)


def clients_ipv4(first: int, rows: int) -> Rows:
    """The same of IPv4."""
    return _rows(rows, 80, 50000, array("I", [1] * rows), array("I", range(first, first + rows)))


def fixed_source_ports(first: int, rows: int) -> Rows:
    """Rows of a client that binds before it connects, to 20,000 ports outside of the range."""
    made = _rows(rows, 0, 443, array("I", [1] * rows), array("I", [1] * rows))
    return made._replace(local_ports=array("H", (n % 20_000 for n in range(first, first + rows))))


def _rows(rows: int, local: int, remote: int, near: object, far: object) -> Rows:
    expires = array("I", (n * 7919 % 60_000 for n in range(rows)))
    ports = array("H", [local]) * rows, array("H", [remote]) * rows
    nothing = array("I", bytes(4 * rows))
    return Rows(bytes([6]) * rows, b"\3" * rows, *ports, near, far, expires, nothing)  # type: ignore[arg-type]


def peak(make: Callable[[int, int], Rows], rows: int) -> int:
    """Return the most bytes held while so many rows are taken in and added up."""
    gc.collect()
    tracemalloc.start()
    try:
        intake = Intake([LISTENER], {})
        for first in range(1, rows + 1, BATCH):
            intake.add(make(first, min(BATCH, rows + 1 - first)))
        census = census_of(intake)
        assert census.all.states == {State.TIME_WAIT: rows}
        assert census.all.time_wait.total == rows
        assert sum(d.sockets for d in census.destinations) <= census.by_client.sockets
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "make",
    [destinations_ipv4, destinations_ipv6, clients_ipv4, clients_ipv6, fixed_source_ports],
)
def test_very_many_of_anything_take_few_bytes_each(
    make: Callable[[int, int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 150,000 and 300,000 do, with an eighth of them and of each number they are judged by."""
    monkeypatch.setattr(cells_module, "_MOST_CELLS", cells_module._MOST_CELLS // 8)
    monkeypatch.setattr(cells_module, "_MANY_ROWS", cells_module._MANY_ROWS // 8)
    monkeypatch.setattr(cells_module, "_SAMPLE", cells_module._SAMPLE // 8)
    monkeypatch.setattr(cells_module, "_bucket_of", (8191).__rmod__)
    assert (peak(make, 37_500) - peak(make, 18_750)) / 18_750 < 60
