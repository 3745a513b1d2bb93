"""Read which addresses this network namespace has: /proc/net/fib_trie and /proc/net/if_inet6."""

from __future__ import annotations

import re
import socket
from typing import Final

from twdiag.sources.live.proc import read_text

_LOCAL: Final = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")


def read_addresses(root: str = "/proc/net") -> frozenset[str]:
    """Return the addresses of a /proc/PID/net as text; none of a family that cannot be read."""
    return parse_fib_trie(read_text(f"{root}/fib_trie") or "") | parse_if_inet6(
        read_text(f"{root}/if_inet6") or ""
    )


def parse_fib_trie(text: str) -> frozenset[str]:
    """Return the local IPv4 addresses that /proc/net/fib_trie lists."""
    return frozenset(_LOCAL.findall(text))


def parse_if_inet6(text: str) -> frozenset[str]:
    """Return the IPv6 addresses that /proc/net/if_inet6 lists, one a line in hexadecimal digits."""
    found = set()
    for line in text.splitlines():
        digits = line.partition(" ")[0]
        if len(digits) == 32 and re.fullmatch("[0-9a-fA-F]{32}", digits):
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return frozenset(found)
