"""What the kernel really refuses: each reader falls back, or says what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.sources.live.confinement import become_nobody, can_filter, forbid_netlink, in_child
from twdiag import lab
from twdiag.errors import SourceError, SourceRefused
from twdiag.lab.scenarios import dual_stack, idle
from twdiag.sources import SOURCES, collect, find_owners
from twdiag.sources.live.sockets import proc_tcp
from twdiag.sources.live.sockets.pyroute2_reader import read_pyroute2
from twdiag.tcp import State

from .conftest import result_of

if TYPE_CHECKING:
    from pathlib import Path

    from twdiag.lab import Stage
    from twdiag.model.snapshot import Snapshot


def identities(snapshot: Snapshot) -> dict[str, Any]:
    """Return what every reader should show: sockets one by one, and the sums of the others."""
    census = snapshot.census
    return {
        "sockets": Counter((s[:6], s.uid, s.inode) for s in census.sockets),
        "states": census.states,
        "servers": [(s.listener.address, s.tally.states, s.clients) for s in census.servers],
    }


def gaps(snapshot: Snapshot) -> dict[str, str]:
    return {gap.what: gap.why for gap in snapshot.gaps}


def inodes_of(snapshot: Snapshot) -> list[int]:
    return [s.inode for s in snapshot.census.sockets if s.inode]


def refusal(source: str) -> tuple[str, str]:
    with pytest.raises(SourceRefused) as error:
        collect(source)
    return error.value.what, error.value.next_step


@can_filter
@pytest.mark.parametrize("number", [errno.EPERM, errno.EAFNOSUPPORT])
def test_without_netlink_the_same_sockets_come_from_proc(number: int) -> None:
    def observe(_: Stage) -> dict[str, Any]:
        collect("proc")  # what is imported later may need what will be forbidden
        before = collect("netlink")
        forbid_netlink(number)
        after = collect("auto")
        return {
            "before": identities(before),
            "after": identities(after),
            "closes": after.census.all.time_wait,
            "source": after.source,
            "gaps": gaps(after),
            "sysctls": (before.sysctls, after.sysctls),
            "netlink": refusal("netlink"),
        }

    seen = result_of(lab.start(dual_stack.SCENARIO, observe))
    assert seen["before"] == seen["after"]
    assert seen["before"]["states"] == {State.LISTEN: 1, State.TIME_WAIT: 23}
    assert sum(seen["closes"].seconds[-5:]) == seen["closes"].total == 23
    assert seen["source"] == "proc"
    assert os.strerror(number) in seen["gaps"]["netlink"]
    assert "bind-mode" in seen["gaps"]
    assert seen["sysctls"][0] == seen["sysctls"][1]
    what, next_step = seen["netlink"]
    assert os.strerror(number) in what
    assert "AF_NETLINK" in next_step


@can_filter
def test_pyroute2_without_netlink_is_an_error() -> None:
    def observe(_: Stage) -> tuple[str, str]:
        collect("pyroute2")
        forbid_netlink(errno.EPERM)
        return refusal("pyroute2")

    what, next_step = result_of(lab.start(idle.SCENARIO, observe))
    assert "pyroute2" in what
    assert next_step


@can_filter
def test_without_netlink_and_proc_there_is_one_sentence_and_a_next_step(tmp_path: Path) -> None:
    def observe(_: Stage) -> dict[str, Any]:
        collect("proc")
        whole = collect("netlink")
        os.chroot(tmp_path)
        os.chdir("/")
        blind = collect("auto")
        forbid_netlink(errno.EPERM)
        with pytest.raises(SourceError) as error:
            collect("auto")
        return {
            "whole": identities(whole),
            "blind": identities(blind),
            "source": blind.source,
            "missing": blind.missing,
            "zeros": (blind.counters, blind.sockstat, blind.sysctls),
            "what": error.value.what,
            "next": error.value.next_step,
            "code": error.value.exit_code,
        }

    seen = result_of(lab.start(dual_stack.SCENARIO, observe))
    assert seen["source"] == "netlink"
    assert seen["whole"] == seen["blind"]
    assert seen["zeros"] == ({}, {}, {})
    assert {"netstat", "snmp", "sockstat", "net.ipv4.ip_local_port_range"} <= seen["missing"]
    assert "\n" not in seen["what"]
    assert "netlink" in seen["what"]
    assert "/proc/net/tcp cannot be read" in seen["what"]
    assert "mount /proc" in seen["next"]
    assert seen["code"] == 3


def test_a_plain_user_sees_every_socket_and_a_gap_for_owners() -> None:
    def look() -> dict[str, Any] | None:
        if not become_nobody():
            return None
        snapshot = collect("auto")
        owners, more = find_owners(snapshot, inodes_of(snapshot))
        return {
            "rows": identities(snapshot),
            "source": snapshot.source,
            "gaps": gaps(snapshot),
            "owners": owners,
            "more": [gap for gap in more if gap.what == "owners"],
            "bind": [s.auto_bound for s in snapshot.census.sockets],
        }

    def observe(_: Stage) -> tuple[dict[str, Any], dict[str, Any] | None]:
        snapshot = collect("netlink")
        find_owners(snapshot, inodes_of(snapshot))
        return identities(snapshot), in_child(look)

    privileged, seen = result_of(lab.start(dual_stack.SCENARIO, observe))
    if seen is None:
        pytest.skip("this user namespace has no second user")
    assert seen["rows"] == privileged
    assert seen["source"] == "netlink"
    assert seen["gaps"] == {}
    assert seen["bind"] == [False]
    assert seen["owners"] == {}
    (gap,) = seen["more"]
    assert gap.partial
    assert "the owners of 1 socket are not visible" in gap.why
    assert "root" in gap.how


def test_every_source_shows_the_same_states() -> None:
    def observe(_: Stage) -> dict[str, dict[State, int]]:
        return {source: dict(collect(source).census.states) for source in SOURCES}

    seen = result_of(lab.start(dual_stack.SCENARIO, observe))
    states = {State.LISTEN: 1, State.TIME_WAIT: 23}
    assert list(seen) == list(SOURCES)
    assert all(shown == states for shown in seen.values())


def test_a_source_that_does_not_exist_is_a_usage_error() -> None:
    from twdiag.errors import UsageError

    with pytest.raises(UsageError, match="'netlnk'") as error:
        collect("netlnk")
    assert "netlink" in error.value.next_step


# pyroute2 returns an empty tuple for a refused dump.


class EmptyDiagSocket:
    """A DiagSocket whose dumps are refused, or of a host without sockets: it looks the same."""

    def __enter__(self) -> EmptyDiagSocket:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def bind(self) -> None:
        pass

    def get_sock_stats(self, **_: object) -> tuple[()]:
        return ()


HEAD = "  sl  local_address rem_address   st\n"
ROW = "   0: 0100007F:1F90 00000000:0000 0A ...\n"


@pytest.mark.parametrize(
    ("tcp", "tcp6"), [(HEAD + ROW, HEAD), (HEAD, HEAD + ROW), (HEAD + ROW, None)]
)
def test_a_silent_refusal_of_pyroute2_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tcp: str, tcp6: str | None
) -> None:
    _pretend(monkeypatch, tcp, tcp6)
    with pytest.raises(SourceRefused, match="pyroute2") as error:
        read_pyroute2()
    assert error.value.next_step


@pytest.mark.parametrize("tcp6", [HEAD, None])
def test_a_host_without_sockets_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, tcp6: str | None
) -> None:
    _pretend(monkeypatch, HEAD, tcp6)
    assert read_pyroute2().census.states == {}


def _pretend(monkeypatch: pytest.MonkeyPatch, tcp: str, tcp6: str | None) -> None:
    import pyroute2

    from twdiag.sources.live.sockets import pyroute2_reader

    files = {"/proc/net/tcp": tcp, "/proc/net/tcp6": tcp6}
    monkeypatch.setattr(pyroute2, "DiagSocket", EmptyDiagSocket)
    monkeypatch.setattr(pyroute2_reader, "read_text", files.get)


def test_psutil_that_may_not_look_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def refuse(kind: str) -> None:
        raise psutil.AccessDenied(msg=f"no {kind}")

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert refusal("psutil")[1] == "use --source netlink"


def test_psutil_without_proc_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def fail(kind: str) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", f"/proc/net/{kind}")

    monkeypatch.setattr(psutil, "net_connections", fail)
    assert "/proc/net/tcp" in refusal("psutil")[0]


def test_gaps_name_what_each_reader_cannot_show() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        assert {gap.what for gap in collect("psutil").gaps} >= {"timers", "queues", "inodes"}
        assert {gap.what for gap in collect("pyroute2").gaps} >= {"tcp-info", "bind-mode"}
        assert all(s.auto_bound is None for s in proc_tcp.read_proc().census.sockets)
