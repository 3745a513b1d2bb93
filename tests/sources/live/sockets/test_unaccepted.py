"""For how long connections have waited for accept(), by tcp_info in the dump or one by one."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.privately import in_private
from twdiag.analysis.view import View
from twdiag.errors import SourceError
from twdiag.sources import collect
from twdiag.sources.live.sockets import netlink
from twdiag.sources.live.sockets.blocks import Block
from twdiag.sources.live.sockets.inet_diag import decode_lookup, encode_lookup
from twdiag.tcp import State

from .wire import BY_FAMILY, INFO, MANY, Row, done, error, message, rows

SLACK = 0.1
PAUSE = 0.4


def waits(address: str, client: str) -> tuple[list[float], float, float]:
    """Return how long two connections seem to have waited in a queue.

    With that come the shortest and the longest time that the older one may really have waited.
    """
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = stack.enter_context(socket.socket(family))
        listener.bind((address, 0))
        listener.listen(5)
        called = time.monotonic()
        first = stack.enter_context(socket.create_connection((client, listener.getsockname()[1])))
        since = time.monotonic()
        time.sleep(PAUSE)
        stack.enter_context(socket.create_connection((client, listener.getsockname()[1])))
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")  # what the client sends makes no wait shorter
        time.sleep(0.1)
        least = time.monotonic() - since
        view = View(collect("netlink"))
        most = time.monotonic() - called
        ((_, found),) = view.unaccepted.items()
        assert view.count(State.ESTABLISHED) == 4
        return sorted(found), least, most


@pytest.mark.parametrize("few", [20_000, -1], ids=["in the dump", "one by one"])
@pytest.mark.parametrize(
    ("address", "client"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")]
)
def test_the_wait_is_that_since_the_handshake(
    few: int, address: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netlink, "_FEW_SOCKETS", few)
    found, least, most = in_private(lambda: waits(address, client))
    assert len(found) == 2
    assert least - SLACK <= found[1] <= most + SLACK
    assert found[1] - found[0] >= PAUSE - 0.05


def after_accept() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        with socket.create_connection(listener.getsockname()) as _, listener.accept()[0]:
            return len(View(collect("netlink")).unaccepted)


def test_an_accepted_connection_waits_no_more() -> None:
    assert in_private(after_accept) == 0


@MANY
@given(rows((1,)))
def test_a_request_names_the_socket_that_was_seen(row: Row) -> None:
    raw = message(BY_FAMILY, row.body)
    (seen,) = Block(raw, len(raw)).sockets()
    request = encode_lookup(seen, 7)
    assert len(request) == 72
    head, asked = request[:16], request[24:]
    assert struct.unpack("=IHHII", head)[2] & 0x300 == 0  # one socket, no dump
    assert asked[:4] == row.body[4:8]  # the ports, in network order
    assert asked[40:48] == row.body[44:52]  # the cookie


def test_an_answer_is_the_socket_with_its_ages() -> None:
    info = (INFO, bytes(44) + bytes(range(16)) + bytes(220))
    row = Row(state=1, cookie=5, attributes=(info,))
    found = decode_lookup(message(BY_FAMILY, row.body))
    assert found is not None
    assert found.cookie == 5
    assert found.info is not None
    assert tuple(found.info) == row.ages


@pytest.mark.parametrize("datagram", [b"", error(2), done(), message(BY_FAMILY, b"x")])
def test_no_socket_is_none(datagram: bytes) -> None:
    assert decode_lookup(datagram) is None


@MANY
@given(st.binary(max_size=400))
def test_garbage_is_none_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(SourceError):
        decode_lookup(message(BY_FAMILY, raw))
        decode_lookup(raw)
