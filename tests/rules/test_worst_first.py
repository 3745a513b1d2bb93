"""Each rule tells the worst of its findings first: where many are alike it stands for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.made import (
    HERE,
    LISTEN_8080,
    aged,
    close_wait,
    listening,
    report_of,
    snapshot_of,
    syn_sent,
)
from twdiag.model.snapshot import Owner, Snapshot
from twdiag.model.sockets import TIMER_RETRANSMIT, Socket, TcpInfo
from twdiag.rules.subjects import most_first
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (5, 8, 6)
"""What the rows of a table begin with is not the worst."""


def leaking() -> Snapshot:
    """Processes that leak the same and may have different numbers of descriptors."""
    sockets, owners = aged(close_wait(54), 60), {}
    for number, socket in enumerate(sockets):
        pid = 801 + number % 3
        owners[socket.inode] = (
            Owner(pid, f"worker-{pid}", "app", 19, {801: 22, 802: 20, 803: 21}[pid]),
        )
    return snapshot_of(LISTEN_8080, *sockets, owners=owners)


def crowded() -> Snapshot:
    """Processes near their limits, for no reason that is seen."""
    owners = (Owner(n, f"worker-{n}", "app", fds, 1000) for n, fds in ((801, 810), (802, 890)))
    return snapshot_of(crowded=tuple(owners))


def queues() -> Snapshot:
    listeners = (
        listening(8080 + n, recv_q=128 + size, send_q=128, inode=7 + n, cookie=990 + n)
        for n, size in enumerate(SIZES)
    )
    return snapshot_of(*listeners)


def abandoned() -> Snapshot:
    sockets: list[Socket] = []
    for n, size in enumerate(SIZES):
        sockets.append(listening(8080 + n, inode=7 + n, cookie=990 + n))
        sockets += (
            s._replace(inode=0, local_port=8080 + n, cookie=100 * n + i + 1)
            for i, s in enumerate(aged(close_wait(size), 60))
        )
    return snapshot_of(*sockets)


def calls() -> Snapshot:
    return snapshot_of(
        *(s for n, size in enumerate(SIZES) for s in syn_sent(size, to=f"10.3.0.{n}"))
    )


def silent(state: State) -> Snapshot:
    """Connections whose peers do not acknowledge."""
    info = TcpInfo(last_data_sent=9000, last_data_recv=9000, last_ack_recv=9000)
    base = Socket(state, HERE, 40000, "10.3.0.1", 80, TIMER_RETRANSMIT, 900, 9, send_q=1, info=info)
    sockets = [
        base._replace(remote_address=f"10.3.0.{n}", local_port=40000 + 100 * n + i, inode=1)
        for n, size in enumerate(SIZES)
        for i in range(size)
    ]
    return snapshot_of(*sockets)


@pytest.mark.parametrize(
    ("rule", "made", "fact"),
    [
        ("fd-limit-near", leaking, "fd_ratio"),
        ("fd-limit-near", crowded, "fd_ratio"),
        ("accept-queue-full", queues, "accept_queue"),
        ("close-wait-never-accepted", abandoned, "close_wait"),
        ("syn-unanswered", calls, "syn_sent"),
        ("data-unanswered", lambda: silent(State.ESTABLISHED), "unanswered"),
        ("fin-unanswered", lambda: silent(State.FIN_WAIT1), "unanswered"),
    ],
)
def test_the_worst_of_a_severity_is_told_first(
    rule: str, made: Callable[[], Snapshot], fact: str
) -> None:
    findings = report_of(made(), rule).findings
    assert len(findings) > 1
    worth = [(f.severity, float(str(f.evidence[fact]))) for f in findings]
    assert worth == sorted(worth, reverse=True)


def test_the_largest_group_is_the_first() -> None:
    assert most_first({"a": [1], "b": [1, 2, 3], "c": [1, 2]}) == [
        ("b", [1, 2, 3]),
        ("c", [1, 2]),
        ("a", [1]),
    ]
