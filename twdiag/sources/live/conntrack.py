"""Read connection tracking: its counters without a right, its entries with CAP_NET_ADMIN.

Layout: include/uapi/linux/netfilter/nfnetlink_conntrack.h; counters: net/netfilter/
nf_conntrack_standalone.c.  Entries of one SNAT and state differ in their client alone, so the
decoder looks at the few bytes that tell groups apart and makes no value of the rest.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import Counter
from typing import Final

from twdiag.errors import SourceError, SourceRefused
from twdiag.model.conntrack import STATES, Conntrack, ConntrackCounters, Snat
from twdiag.model.snapshot import Gap
from twdiag.sources.live.proc import read_text

_NETLINK_NETFILTER: Final = 12
_GET: Final = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_NEW: Final = 1 << 8
_HEADER: Final = struct.Struct("=IHHII")
_ATTR: Final = struct.Struct("=HH")
_TYPE: Final = 0x3FFF  # NLA_F_NESTED and NLA_F_NET_BYTEORDER are above
_BODY: Final = _HEADER.size + 4  # struct nfgenmsg
_TUPLE_ORIG, _TUPLE_REPLY, _PROTOINFO = 1, 2, 4
_IP, _PROTO = 1, 2


_TCP: Final = 6
_BUFFER: Final = 1 << 16
_QUIET_SECONDS: Final = 5.0


# The two tuples of an IPv4 TCP entry as every kernel writes them: heads of attributes apart from
# values, so that one comparison tells whether an entry is of this plain shape.
_PLAIN_TUPLE: Final = "12s4s4s4s16s2s6s2s2x"
_PLAIN: Final = struct.Struct("=" + 2 * _PLAIN_TUPLE)
_PLAIN_HEADS: Final = tuple(
    (
        struct.pack("=HHHHHH", 52, 0x8000 | which, 20, 0x8000 | _IP, 8, 1),
        struct.pack("=HH", 8, 2),
        struct.pack("=HHHHB3xHH", 28, 0x8000 | _PROTO, 5, 1, _TCP, 6, 2),
        struct.pack("=2xHH", 6, 3),
    )
    for which in (_TUPLE_ORIG, _TUPLE_REPLY)
)


class Entries:
    """Counts the entries of a dump by SNAT and state; `done` turns True at its end."""

    def __init__(self, seq: int = 1) -> None:
        self.seq = seq
        self.done = False
        self.others = 0
        self._groups: Counter[tuple[bytes, bytes, bytes, int, bool]] = Counter()
        # Where the state of an entry of a length was last found, and the 12 bytes before it.
        self._places: dict[int, tuple[int, bytes]] = {}

    def feed(self, datagram: bytes) -> None:
        """Count the entries of one datagram.

        Raises SourceRefused where the kernel refuses the dump, SourceError where the bytes make no
        sense.
        """
        at, size = 0, len(datagram)
        while at < size:
            if size - at < _HEADER.size:
                raise SourceError(f"a conntrack message is cut at byte {at}")
            length, kind, _, seq, _ = _HEADER.unpack_from(datagram, at)
            if length < _HEADER.size or at + length > size:
                raise SourceError(f"a conntrack message at byte {at} claims {length} bytes")
            if seq == self.seq:
                if kind == _NEW:
                    if not self._plain(datagram, at + _BODY, length):
                        self._entry(datagram, at + _BODY, at + length)
                elif kind in (2, 3):  # NLMSG_ERROR, NLMSG_DONE
                    self.done = True
                    _refuse_unless_zero(datagram[at + _HEADER.size : at + length])
            at += (length + 3) & ~3

    def _plain(self, raw: bytes, at: int, length: int) -> bool:
        """Count an entry of the plain shape, three times as fast; return whether it was one."""
        place, head = self._places.get(length, (0, b""))
        if not place or raw[at + place - 12 : at + place] != head:
            return False
        a, source, b, _, c, port, d, _, e, target, f, address, g, target_port, h, own = (
            _PLAIN.unpack_from(raw, at)
        )
        if ((a, b, c, d), (e, f, g, h)) != _PLAIN_HEADS:
            return False
        translated = address != source or own != port
        self._groups[address, target, target_port, raw[at + place], translated] += 1
        return True

    def _entry(self, raw: bytes, at: int, end: int) -> None:
        origin = reply = None
        state, start, length_of_all = 0, at, end - at + _BODY
        while at + 4 <= end:
            length, kind = _ATTR.unpack_from(raw, at)
            if length < 4 or at + length > end:
                raise SourceError(f"an attribute of a conntrack entry claims {length} bytes")
            kind &= _TYPE
            if kind == _TUPLE_ORIG:
                origin = _ends(raw, at + 4, at + length)
                if origin is None:
                    self.others += 1
                    return
            elif kind == _TUPLE_REPLY:
                reply = _ends(raw, at + 4, at + length)
            elif kind == _PROTOINFO and length >= 13:
                # CTA_PROTOINFO_TCP is the one nest, CTA_PROTOINFO_TCP_STATE its first attribute.
                state = raw[at + 12]
                if at - start >= _PLAIN.size:
                    self._places[length_of_all] = (at + 12 - start, raw[at : at + 12])
                break
            at += (length + 3) & ~3
        if origin is None or reply is None:
            raise SourceError("a conntrack entry has no tuple")
        # The reply goes to the translated source; without SNAT that is the source itself.
        translated = (reply[1], reply[2]) != (origin[0], origin[3])
        self._groups[reply[1], reply[0], reply[3], state, translated] += 1

    @property
    def snats(self) -> dict[Snat, dict[str, int]]:
        """TCP entries whose source was translated, by SNAT and state."""
        found: dict[Snat, dict[str, int]] = {}
        for (address, destination, port, state, translated), count in self._groups.items():
            if translated:
                snat = Snat(_text(address), _text(destination), int.from_bytes(port, "big"))
                states = found.setdefault(snat, {})
                states[_name(state)] = states.get(_name(state), 0) + count
        return found

    @property
    def states(self) -> dict[str, int]:
        """All TCP entries by state."""
        found: Counter[str] = Counter()
        for (*_, state, _), count in self._groups.items():
            found[_name(state)] += count
        return dict(found)


def _ends(raw: bytes, at: int, end: int) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Return source, destination, destination port and source port of a TCP tuple, else None."""
    source = destination = source_port = destination_port = b""
    while at + 4 <= end:
        length, kind = _ATTR.unpack_from(raw, at)
        if length < 4 or at + length > end:
            raise SourceError(f"an attribute of a conntrack tuple claims {length} bytes")
        inner, stop = at + 4, at + length
        if kind & _TYPE == _IP:
            # Two addresses of the same size, source first (nf_ct_ipv4_tuple_to_nlattr and v6).
            half = (stop - inner) // 2
            source, destination = raw[inner + 4 : inner + half], raw[inner + half + 4 : stop]
            if len(source) not in (4, 16) or len(source) != len(destination):
                raise SourceError("a conntrack tuple has no two addresses")
        elif kind & _TYPE == _PROTO:
            if stop - inner < 5 or raw[inner + 4] != _TCP:
                return None
            source_port, destination_port = (
                raw[inner + 12 : inner + 14],
                raw[inner + 20 : inner + 22],
            )
            if stop - inner < 22:
                raise SourceError("a conntrack tuple has no two ports")
        at += (length + 3) & ~3
    if not source or not destination_port:
        raise SourceError("a conntrack tuple is not complete")
    return source, destination, destination_port, source_port


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _name(state: int) -> str:
    return STATES[state] if state < len(STATES) else str(state)


def _refuse_unless_zero(body: bytes) -> None:
    number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
    if number:
        known = os.strerror(number) if 0 < number < 4096 else "unknown error"
        raise SourceRefused(f"the kernel refuses the conntrack entries: {known}", "run as root")


def parse_counters(text: str) -> ConntrackCounters | None:
    """Return the sums of /proc/PID/net/stat/nf_conntrack, None where its head is not known.

    A head line of names, then a line of hexadecimal numbers for each CPU; "entries" is the same in
    each.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or "entries" not in lines[0]:
        return None
    head, sums = lines[0], Counter[str]()
    entries = 0
    for words in lines[1:]:
        try:
            numbers = dict(zip(head, (int(word, 16) for word in words), strict=True))
        except ValueError:
            return None
        entries = max(entries, numbers["entries"])
        sums.update(numbers)
    names = ("insert_failed", "drop", "early_drop")
    return ConntrackCounters(entries, *(sums[name] for name in names))


def read_counters(pid: int | str = "self") -> ConntrackCounters | None:
    """Return the counters of a process's namespace, which anybody may read; None without them."""
    text = read_text(f"/proc/{pid}/net/stat/nf_conntrack")
    return parse_counters(text) if text else None


def read_conntrack() -> tuple[Conntrack, list[Gap]]:
    """Return what connection tracking holds in this namespace, and what could not be seen.

    Where nothing is tracked no dump is taken.  3 us an entry.
    """
    counters = read_counters()
    limit = (read_text("/proc/sys/net/netfilter/nf_conntrack_max") or "").strip()
    seen = Conntrack(counters, int(limit) if limit.isdigit() else None)
    if counters is not None and not counters.entries:
        return Conntrack(seen.counters, seen.maximum, {}), []
    try:
        entries = read_entries()
    except SourceError as error:
        gap = Gap("conntrack", error.what, error.next_step or "run as root", partial=True)
        return seen, [gap]
    found = Conntrack(counters, seen.maximum, entries.snats, entries.states, entries.others)
    return found, []


def read_entries() -> Entries:
    """Return all entries of this namespace, counted.  Raises SourceRefused without the right."""
    entries = Entries()
    request = _HEADER.pack(_BODY, _GET, 0x301, 1, 0) + bytes(4)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as channel:
            channel.settimeout(_QUIET_SECONDS)
            channel.sendto(request, (0, 0))
            while not entries.done:
                entries.feed(channel.recv(_BUFFER))
    except TimeoutError as error:
        raise SourceError("the kernel stopped answering the conntrack dump", "run again") from error
    except OSError as error:
        lost = error.errno == errno.ENOBUFS
        what = (
            "the kernel dropped a part of the conntrack dump"
            if lost
            else (f"the kernel refuses the conntrack entries: {error.strerror}")
        )
        raise SourceRefused(what, "run again" if lost else "run as root") from error
    return entries
