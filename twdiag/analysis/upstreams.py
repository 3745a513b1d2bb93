"""Names for the ends of connections: /etc/hosts, a listener's owner, a well-known port."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import is_loopback
from twdiag.wording import endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twdiag.model.waits import OtherSocket

WELL_KNOWN: Final[Mapping[int, str]] = {
    22: "ssh",
    25: "smtp",
    53: "dns",
    80: "http",
    88: "kerberos",
    389: "ldap",
    443: "https",
    587: "smtp",
    636: "ldaps",
    993: "imaps",
    1433: "sql server",
    1521: "oracle",
    1883: "mqtt",
    2049: "nfs",
    2181: "zookeeper",
    2379: "etcd",
    3128: "squid",
    3306: "mysql",
    4222: "nats",
    5432: "postgres",
    5672: "amqp",
    6379: "redis",
    6432: "pgbouncer",
    8500: "consul",
    9042: "cassandra",
    9092: "kafka",
    9200: "elasticsearch",
    11211: "memcached",
    27017: "mongodb",
}
"""What usually listens on a port of a server that other programs wait for."""

_UNIX_SERVICES: Final = (
    (re.compile(r"/\.s\.PGSQL\.\d+"), "postgres"),
    (re.compile(r"/mysqlx?d?\.sock"), "mysql"),
    (re.compile(r"/redis[^/]*\.sock"), "redis"),
    (re.compile(r"/memcached[^/]*"), "memcached"),
    (re.compile(r"/mongodb-\d+\.sock"), "mongodb"),
)
"""How the paths end at which services that other programs wait for listen: their defaults."""
_WILDCARDS: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class EndNames:
    """What is known of addresses and ports.

    `hosts` maps addresses to names (parse_hosts()); `listeners` maps (address, port) of this host's
    listeners to their owner's name, "" where it was not seen; `local` are this host's addresses
    besides loopback.  `others` are the sockets of threads that no TCP table shows, by inode.
    """

    hosts: Mapping[str, str] = field(default_factory=dict)
    listeners: Mapping[tuple[str, int], str] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    others: Mapping[int, OtherSocket] = field(default_factory=dict)

    def serves(self, address: str, port: int) -> bool:
        """Say whether this end of a connection belongs to a listener of this host."""
        return self._listener(address, port) is not None

    def of(self, address: str, port: int) -> str:
        """Return what an end is called, the surest names first: "db1, postgres", "" if unknown."""
        owner = self._listener(address, port) if self.is_local(address) else None
        host = "" if is_loopback(address) else self.hosts.get(address, "")
        names = [host, owner or WELL_KNOWN.get(port, "")]
        return ", ".join(visible(name) for name in names if name)

    def is_local(self, address: str) -> bool:
        """Say whether an address is this host's own."""
        return address in self.local or is_loopback(address)

    def _listener(self, address: str, port: int) -> str | None:
        for place in (address, *_WILDCARDS):
            name = self.listeners.get((place, port))
            if name is not None:
                return name
        return None


def described(address: str, port: int, name: str) -> str:
    """Return "10.0.0.5:5432 (db1, postgres)"."""
    return f"{endpoint(address, port)} ({name})" if name else endpoint(address, port)


def service_at(path: str) -> str:
    """Return the service that usually listens at the path of a Unix socket, "" elsewhere.

    A thread that waits for one of them is at work; for others (D-Bus, a log) many wait all day.
    """
    for pattern, name in _UNIX_SERVICES:
        if pattern.fullmatch(path, max(0, path.rfind("/"))):
            return name
    return ""


def parse_hosts(text: str) -> dict[str, str]:
    """Return {address: first name} of /etc/hosts; of several lines for an address the first counts.

    Lines that are no address and name are left out, as the resolver does (hosts(5)).
    """
    names: dict[str, str] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) >= 2:
            names.setdefault(_plain(words[0]), words[1])
    return names


def _plain(address: str) -> str:
    """Return an address as the kernel's tables show it: v4-mapped folded, IPv6 in short form."""
    import ipaddress

    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
