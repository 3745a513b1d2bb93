"""A kernel that answers socket dumps as a test wants, in the place of the socket module."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .wire import BY_FAMILY, GETSOCK, Row, done, message

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = "interrupted"
"""Marks a dump as inconsistent; stands in a script where rows do."""


@dataclass(frozen=True)
class Foreign:
    """A datagram that another process sends."""

    raw: bytes


@dataclass(frozen=True)
class Request:
    """What a reader asks for; family None is both."""

    family: int | None
    states: int
    info: bool
    protocol: int
    filtered: bool
    seq: int
    datagram: bytes

    @classmethod
    def of(cls, raw: bytes) -> Request:
        length, kind, _, seq, _ = struct.unpack_from("=IHHII", raw)
        assert length == len(raw)
        family, protocol, extensions, last = raw[16:20]
        attributes = {}
        at = 16 + (56 if kind == BY_FAMILY else 60)
        while at < length:
            size, number = struct.unpack_from("=HH", raw, at)
            attributes[number] = raw[at + 4 : at + size]
            at += (size + 3) & ~3
        if kind == GETSOCK:
            states = struct.unpack_from("=I", raw, 68)[0]
            return cls(None, states, bool(last), 6, 1 in attributes, seq, raw)
        assert kind == BY_FAMILY
        if protocol == 255:
            protocol = struct.unpack("=I", attributes[3])[0]
        states = struct.unpack_from("=I", raw, 20)[0]
        return cls(family, states, bool(extensions), protocol, 1 in attributes, seq, raw)


@dataclass
class Kernel:
    """Answers each request with what `script` gives: rows, INTERRUPTED, or errors to raise.

    An int is the errno of a refusal, an exception what recvmsg() raises; an ENOBUFS in the middle
    leaves the dump unfinished, and the socket busy, as netlink_dump() in af_netlink.c does.
    """

    script: Callable[[Request], list[object]]
    requests: list[Request] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    refuses: int = 0

    # What twdiag.sources.live.sockets.netlink uses of the socket module.
    AF_NETLINK = socket.AF_NETLINK
    SOCK_RAW = socket.SOCK_RAW
    MSG_TRUNC = socket.MSG_TRUNC

    def socket(self, family: int, kind: int, protocol: int) -> FakeSocket:
        assert (family, kind, protocol) == (socket.AF_NETLINK, socket.SOCK_RAW, 4)
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.opened += 1
        return FakeSocket(self)


class FakeSocket:
    """One netlink socket."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.answers: deque[bytes | BaseException | Foreign] = deque()
        self.busy = False
        self.timeout: float | None = None

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def sendto(self, raw: bytes, address: tuple[int, int]) -> None:
        assert address == (0, 0)
        request = Request.of(raw)
        self.kernel.requests.append(request)
        if self.busy:
            self.answers.append(done(errno.EBUSY, seq=request.seq))
            return
        number, flags = 0, 2
        for item in self.kernel.script(request):
            if item is INTERRUPTED:
                flags |= 0x10
            elif isinstance(item, Row):
                kind = BY_FAMILY if request.family is not None else GETSOCK
                self.answers.append(message(kind, item.body, seq=request.seq, flags=flags))
            elif isinstance(item, Foreign):
                self.answers.append(item)
            elif isinstance(item, BaseException):
                self.busy = True
                self.answers.append(item)
            elif isinstance(item, bytes):
                self.answers.append(item)
            else:
                assert isinstance(item, int)
                number = item
        self.answers.append(done(number, seq=request.seq))

    def recvmsg_into(self, buffers: list[bytearray]) -> tuple[int, list[object], int, object]:
        assert self.timeout, "a socket without a timeout can hang for ever"
        assert self.answers, "nothing was asked, or the end of the dump was overlooked"
        answer = self.answers.popleft()
        if isinstance(answer, BaseException):
            raise answer
        sender = 0
        if isinstance(answer, Foreign):
            sender, answer = 4711, answer.raw
        (buffer,) = buffers
        size = min(len(answer), len(buffer))
        buffer[:size] = answer[:size]
        return size, [], socket.MSG_TRUNC if size < len(answer) else 0, (sender, 0)

    def close(self) -> None:
        self.kernel.closed += 1
