"""A host of its own for a test: private namespaces joined by cables, and no other to be seen.

/proc shows only the processes of the test, so that nothing of this machine takes part: neither its
other namespaces nor the time that a look at them takes.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from tests.sources.live.confinement import in_child
from twdiag import rules
from twdiag.engine.look import Question
from twdiag.errors import SourceRefused
from twdiag.lab import kernel
from twdiag.lab.actors import Program, Sockets, close_first, listen, meet
from twdiag.lab.stage import Stage
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.model.findings import Finding, Report

T = TypeVar("T")
PREFIX: Final = 24

_CLONE_NEWNS: Final = 0x20000
_CLONE_NEWPID: Final = 0x20000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)

AT_ONCE: Final = Question(
    limits=rules.DEFAULTS.replaced({"close-wait-age": 0, "fin-wait2-age": 0}, "test"),
    causes=False,
)
"""A question for which nothing is too young."""


class Village(Stage):
    """A stage with as many namespaces as wanted beside its own, which is the host's."""

    def house(self) -> int:
        """Return a descriptor of a new namespace; it ends with its last process."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        kernel.unshare(kernel.CLONE_NEWNET)
        made = os.open("/proc/self/ns/net", os.O_RDONLY)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        kernel.setns(home)
        os.close(home)
        return made

    def move_in(self, name: str, house: int) -> Program:
        """Return a program in a house, once it is there."""
        self._peer = house
        program = Program(self, name, peer=True)
        program.do(_arrive)
        return program

    def await_in(self, house: int, wanted: Mapping[State, int]) -> None:
        """Wait until a house has as many sockets of these states as wanted."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        kernel.setns(house)
        try:
            self.wait_for(wanted)
        finally:
            kernel.setns(home)
            os.close(home)

    def closed_first(self, house: int, server: Program, client: Program, count: int) -> None:
        """Let a server on loopback close so many connections first: TIME_WAITs in its house."""
        server.do(listen)
        meet(client, server, count)
        close_first(server, client)
        self.await_in(house, {State.TIME_WAIT: count})

    def pid(self, name: str) -> int:
        """Return the number of a program."""
        return next(actor.pid for actor in self.actors if actor.name == name)

    def cable(self, one: int | None, address: str, other: int, far_address: str) -> None:
        """Join two houses, or the host (None) and a house, by a veth pair."""
        from pyroute2 import IPRoute

        name = f"c{len(os.listdir('/sys/class/net'))}x{address.replace('.', '')[-6:]}"
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        for house, mine in ((one, address), (other, far_address)):
            if house is not None:
                kernel.setns(house)
            with IPRoute() as route:
                if mine is address:
                    far = {"ifname": name, "net_ns_fd": other}
                    route.link("add", ifname=name, kind="veth", peer=far)
                (index,) = route.link_lookup(ifname=name)
                route.addr("add", index=index, address=mine, prefixlen=PREFIX)
                route.link("set", index=index, state="up")
            kernel.setns(home)
        os.close(home)


def _arrive(_: Sockets) -> None:
    """Answer: a program enters its house before it hears anything."""


def alone(work: Callable[[Village], T]) -> T:
    """Return what some work returns on a host of its own; skip where there can be none."""

    def outer() -> T | SourceRefused:
        try:
            kernel.unshare(_CLONE_NEWNS | _CLONE_NEWPID | kernel.CLONE_NEWNET)
        except OSError as error:
            return SourceRefused(f"no host of its own: {error}", "run the tests as root")
        return in_child(inner)

    def inner() -> T:
        # The number 1 of the new PID namespace: all others end with it.
        _mount(b"none", b"/", None, _MS_REC_PRIVATE)
        _mount(b"proc", b"/proc", b"proc", 0)
        village = Village()
        try:
            return work(village)
        finally:
            village.end()

    result = in_child(outer)
    if isinstance(result, SourceRefused):
        pytest.skip(f"{result.what}; {result.next_step}")
    return result


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), f"mount {target!r}")


def told(report: Report) -> list[tuple[str, str]]:
    """Return (rule, namespace) of each finding."""
    return sorted((finding.rule, finding.netns) for finding in report.findings)


def finding(report: Report, rule: str, netns: str) -> Finding:
    """Return the one finding of a rule in a namespace."""
    (found,) = (f for f in report.findings if (f.rule, f.netns) == (rule, netns))
    return found
