"""Turn what an intake counted into readable groups."""

from __future__ import annotations

import sys
from array import array
from collections import Counter, defaultdict
from itertools import compress, islice
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import bytes_of, text_of
from twdiag.census.cells import Groups, Key, total
from twdiag.census.intake import CLIENTS_FROM, LAST_TAG
from twdiag.census.listeners import PARTLY, find_listener
from twdiag.census.masks import both, table_of
from twdiag.census.moments import tally_of
from twdiag.model.census import Census, Destination, LocalEnd, Server
from twdiag.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.census.intake import Intake

_MOST_DESTINATIONS: Final = 250
"""How many destinations are told in detail: the largest."""
_FEW_SOCKETS: Final = 64
"""Destinations with fewer sockets need not be told apart on a host with very many of them."""
_MOST_CLIENTS: Final = 3
_SURE: Final = 30
"""An estimate from a sample is told if so many rows of the sample are behind it."""
_MOST_SOURCES: Final = 16
_NEAR: Final = 0.1
"""A source address with fewer connections than that share of the ports cannot run out of them."""
_MOST_LEFT_OVERS: Final = 1_000
_SURELY_A_SERVICE: Final = 20
"""Of the ports that connect() hands out only those with so many clients may be a service's."""

_LEAST: Final = bytes([1, _SURELY_A_SERVICE]) + bytes(254)
"""How many remote ports of clients a left-over has at least, by whether its port is usable."""

_Moments = Counter[int]

# Of an unclaimed row: bits 0-7 its moment, 16-31 local port, 32-47 remote, 48-63 local address.
_PORTS: Final = 0xFFFF_FFFF << 16
_NOT_REMOTE: Final = ~(0xFFFF << 32)
_LOCAL_END: Final = 0xFFFF << 48 | 0xFFFF << 16


def census_of(intake: Intake) -> Census:
    """Return the census of all rows that an intake has taken."""
    sockets = intake.settle_kept()
    local = intake.local.settle(1)
    least = max(1, min(_FEW_SOCKETS, intake.budget.ports // 20))
    remote = list(_by_destination(intake, least))
    by_client = total(moments for *_, groups in remote for moments in groups.moments.values())
    left_out = total(groups.left_out for *_, groups in remote)
    by_client.update(left_out)
    return Census(
        sockets,
        intake.listeners,
        tally_of(total([*local.moments.values(), by_client, intake.other])),
        tally_of(by_client),
        tally_of(intake.fixed),
        _servers(intake, local),
        _destinations(intake, remote),
        left_out.total(),
        _left_overs(intake),
        _ports_by_source(intake, remote),
        intake.examples,
    )


def _by_destination(intake: Intake, least: int) -> Iterator[tuple[int | None, Groups]]:
    """Yield the groups of destinations with the page of their sources, None for IPv6."""
    for page, cells in intake.remote.items():
        yield page, cells.settle(least)
    if intake.remote_ipv6:
        yield None, intake.remote_ipv6.settle(least)


def _destinations(
    intake: Intake, remote: Iterable[tuple[int | None, Groups]]
) -> tuple[Destination, ...]:
    """Return the largest destinations, the largest first."""
    sizes: list[tuple[int, int, int | None, Groups]] = []
    for page, groups in remote:
        counts = ((moments.total(), group) for group, moments in groups.moments.items())
        # Of very many destinations nearly all have one socket: no need to sort those.
        several = sorted((c for c in counts if c[0] > 1), reverse=True)[:_MOST_DESTINATIONS]
        single = (group for group, moments in groups.moments.items() if moments.total() == 1)
        missing = _MOST_DESTINATIONS - len(several)
        several += [(1, group) for group in islice(single, missing)]
        sizes += [(count, group, page, groups) for count, group in several]
    sizes.sort(key=lambda size: -size[0])
    texts = _texts(intake)
    found = [_destination(intake, texts, *size[1:]) for size in sizes[:_MOST_DESTINATIONS]]
    return tuple(sorted(found, key=lambda d: (-d.sockets, d.source, d.address, d.port)))


def _destination(
    intake: Intake, texts: list[str], group: int, page: int | None, groups: Groups
) -> Destination:
    key, tally = Key.of(group), tally_of(groups.moments[group])
    if page is None:
        name = groups.names[group]
        source, address = texts[int.from_bytes(name[:2], "big")], _remote_text(name[2:])
    else:
        source, address = texts[page << 8 | key.tag], text_of(bytes_of(key.address))
    return Destination(source, address, key.port, tally, intake.inodes.get(page, {}).get(group, 0))


def _remote_text(raw: bytes) -> str:
    return text_of(raw[:16], int.from_bytes(raw[16:], "big"))


def _texts(intake: Intake) -> list[str]:
    """Return the local addresses by their numbers; all beyond 65,535 stand for the last."""
    return [*map(_local_text, intake.numbers), "?"]


def _local_text(address: int | bytes) -> str:
    if isinstance(address, int):
        return text_of(bytes_of(address))
    return text_of(address[:16], int.from_bytes(address[16:], "big"))


def _servers(intake: Intake, local: Groups) -> tuple[Server, ...]:
    """Return the listeners with connections, those that closed most of them first."""
    claimed: defaultdict[tuple[str, int], list[_Moments]] = defaultdict(list)
    texts = _texts(intake)
    for group, moments in local.moments.items():
        key = Key.of(group)
        listener = find_listener(intake.listeners, texts[key.address], key.port)
        if listener is not None:
            claimed[listener.address, listener.port].append(moments)
    clients, sampled = _clients(intake), intake.sampled < intake.served
    servers = [
        Server(intake.listeners[end], tally_of(total(moments)), clients.get(end, ()), sampled)
        for end, moments in claimed.items()
    ]
    return tuple(
        sorted(servers, key=lambda s: (-s.closed_first, s.listener.port, s.listener.address))
    )


def _clients(intake: Intake) -> dict[tuple[str, int], tuple[tuple[str, int], ...]]:
    """Return the remote addresses with the most closed connections of each listener."""
    scale = intake.served / intake.sampled if intake.sampled else 1.0
    texts, least = _texts(intake), 1 if scale == 1 else _SURE
    found: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for cells in (intake.clients, intake.clients_ipv6):
        groups = cells.settle(_SURE)
        for group, moments in groups.moments.items():
            key, name, count = Key.of(group), groups.names.get(group), moments.total()
            number = int.from_bytes(name[:2], "big") if name else key.tag
            if count < least or (not name and number == LAST_TAG):
                continue
            listener = find_listener(intake.listeners, texts[number], key.port)
            if listener is not None:
                address = _remote_text(name[2:]) if name else text_of(bytes_of(key.address))
                found[listener.address, listener.port][address] += count
    return {
        end: tuple((address, round(count * scale)) for address, count in _largest(counts))
        for end, counts in found.items()
    }


def _largest(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda client: (-client[1], client[0]))[:_MOST_CLIENTS]


def _left_overs(intake: Intake) -> tuple[LocalEnd, ...]:
    """Return the local ports of no listener whose remote ports are clients'."""
    partly = PARTLY in intake.ports_ipv4.kinds or PARTLY in intake.ports_ipv6.kinds
    rows = _without_listener(intake) if partly else intake.unclaimed
    least = intake.budget.usable_mask.translate(_LEAST)
    candidates = _candidates(rows, least)
    rows = array("Q", compress(rows, map(candidates.__contains__, _halves(rows, 1))))
    texts, found = _texts(intake), {port: _Left(set(), []) for port in candidates}
    for pair in set(map(_PORTS.__and__, rows)):
        if pair >> 32 & 0xFFFF >= CLIENTS_FROM:
            found[pair >> 16 & 0xFFFF].remote_ports.add(pair >> 32 & 0xFFFF)
    for cell, count in Counter(map(_NOT_REMOTE.__and__, rows)).items():
        found[cell >> 16 & 0xFFFF].ends.append((texts[cell >> 48], Counter({cell & 0xFF: count})))
    ends = [
        _local_end(port, left)
        for port, left in found.items()
        if len(left.remote_ports) >= least[port]
    ]
    return tuple(sorted(ends, key=lambda end: (-end.remote_ports, end.port)))


class _Left(NamedTuple):
    """What is left of a local port: remote ports of clients, and moments by local address."""

    remote_ports: set[int]
    ends: list[tuple[str, _Moments]]


def _local_end(port: int, left: _Left) -> LocalEnd:
    addresses = tuple(sorted({address for address, _ in left.ends}))
    tally = tally_of(total(moments for _, moments in left.ends))
    return LocalEnd(port, addresses, len(left.remote_ports), tally)


def _candidates(rows: array[int], least: bytes) -> set[int]:
    """Return the local ports with the most rows that have a client's remote port."""
    remote_ports = _halves(rows, 2)
    far = bytes(map(CLIENTS_FROM.__le__, remote_ports))
    most = len(set(compress(remote_ports, far)))
    counts = Counter(compress(_halves(rows, 1), far))
    enough = {port: n for port, n in counts.items() if least[port] <= min(n, most)}
    return {port for port, _ in Counter(enough).most_common(_MOST_LEFT_OVERS)}


def _without_listener(intake: Intake) -> array[int]:
    """Return the rows whose address no listener takes, though one may have their port."""
    texts, ends = _texts(intake), array("Q", map(_LOCAL_END.__and__, intake.unclaimed))
    free = {
        end
        for end in set(ends)
        if find_listener(intake.listeners, texts[end >> 48], end >> 16 & 0xFFFF) is None
    }
    return array("Q", compress(intake.unclaimed, map(free.__contains__, ends)))


def _halves(keys: array[int], place: int) -> array[int]:
    """Return 16 bits of each key, the lowest at place 0."""
    halves = array("H", keys.tobytes())
    return halves[place if sys.byteorder == "little" else 3 - place :: 4]


def _ports_by_source(
    intake: Intake, remote: Iterable[tuple[int | None, Groups]]
) -> dict[str, frozenset[int]]:
    """Return the distinct local ports of the connections made from the busiest addresses."""
    usable, texts = intake.budget.usable_mask, _texts(intake)
    rows = _rows_by_source(intake, remote)
    least = intake.budget.ports * _NEAR
    found = {}
    for number in [number for number, count in rows.most_common(_MOST_SOURCES) if count >= least]:
        low, high = _bytes_of(intake.local_numbers, 0), _bytes_of(intake.local_numbers, 1)
        here = both(low.translate(table_of(number & 0xFF)), high.translate(table_of(number >> 8)))
        ports = set(compress(intake.local_ports, here))
        found[texts[number]] = frozenset(port for port in ports if usable[port])
    return found


def _bytes_of(column: array[int], place: int) -> bytes:
    """Return 8 bits of each word, the lowest at place 0."""
    return column.tobytes()[place if sys.byteorder == "little" else 3 - place :: 4]


def _rows_by_source(intake: Intake, remote: Iterable[tuple[int | None, Groups]]) -> Counter[int]:
    """Return how many connections were made from each local address, by its number."""
    found: Counter[int] = Counter()
    for page, groups in remote:
        if groups.left_out:  # no group tells of the sockets left out, but their rows do
            return Counter(intake.local_numbers)
        for group, moments in groups.moments.items():
            if page is None:
                number = int.from_bytes(groups.names[group][:2], "big")
            else:
                number = page << 8 | Key.of(group).tag
            found[number] += moments.total()
    return found
