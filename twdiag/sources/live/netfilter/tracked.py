"""Ask the kernel for the entries of connection tracking; it wants CAP_NET_ADMIN."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from twdiag.errors import SourceError
from twdiag.sources.live.netfilter.ctnetlink import (
    GET,
    GET_COUNTERS,
    Entries,
    add_counters,
    count_to_port,
)
from twdiag.sources.live.netfilter.nfnetlink import datagrams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.model.nat import NatRule


def read_entries(rules: Iterable[NatRule], seconds: float) -> Entries:
    """Return the entries of this namespace, counted, `done` if these are all.

    Raises SourceRefused without the right.
    """
    entries = Entries(rules)
    for datagram in datagrams(GET, b"", time.monotonic() + seconds):
        entries.feed(datagram)
        if entries.done:
            break
    return entries


def read_led_elsewhere(port: int, seconds: float) -> Counter[tuple[str, int]]:
    """Return how many tracked connections to a port DNAT leads elsewhere, by where that is."""
    found: Counter[tuple[str, int]] = Counter()
    for datagram in datagrams(GET, b"", time.monotonic() + seconds):
        if count_to_port(datagram, port, found):
            break
    return found


def ask_counters(seconds: float) -> list[int]:
    """Return insert_failed, drop and early_drop of this namespace."""
    sums = [0, 0, 0]
    for datagram in datagrams(GET_COUNTERS, b"", time.monotonic() + seconds):
        if add_counters(datagram, sums):
            return sums
    raise SourceError("the counters of connection tracking have no end", "run again")
