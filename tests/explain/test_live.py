"""Live numbers under the theory: from a snapshot with known sockets, and from one that saw less."""

from __future__ import annotations

import pytest

from tests.made import analyze
from twdiag.explain.layout import set_blocks
from twdiag.explain.live import example, rule_now, state_now
from twdiag.model.snapshot import Gap, Host, Owner, Snapshot
from twdiag.model.sockets import TIMER_RETRANSMIT, TIMER_TIME_WAIT, Socket
from twdiag.rules import DEFAULTS, choose
from twdiag.sources.live.sockets.seen import census_of_sockets
from twdiag.tcp import State


def _snapshot(*rows: Socket, **more: object) -> Snapshot:
    return Snapshot(
        taken_at=0.0,
        host=Host("web1", "6.18"),
        source="netlink",
        census=census_of_sockets(lambda: rows, {}),
        **more,  # type: ignore[arg-type]
    )


def _text(state: State, snapshot: Snapshot) -> str:
    return "\n".join(line.text for line in set_blocks(state_now(state, snapshot)))


def _time_wait(port: int, left_ms: int) -> Socket:
    return Socket(State.TIME_WAIT, "10.0.0.1", 8080, "10.0.0.9", port, TIMER_TIME_WAIT, left_ms)


def test_time_wait_shows_its_number_its_rate_and_a_row() -> None:
    rows = [_time_wait(40000 + n, 59_000 - 1000 * (n % 3)) for n in range(23)]
    sysctls = {"net.ipv4.tcp_max_tw_buckets": "131072", "net.ipv4.tcp_tw_reuse": "2"}
    counters = {"TcpExt.TCPTimeWaitOverflow": 7}
    text = _text(State.TIME_WAIT, _snapshot(*rows, sysctls=sysctls, counters=counters))
    assert "On this host now (web1, netlink)" in text
    assert "23 sockets in TIME_WAIT. For example:" in text
    assert "10.0.0.1:8080 -> 10.0.0.9:40000, ends in 59 s" in text
    assert "closed in the last minute: 23 (0.4/s)" in text
    assert "net.ipv4.tcp_max_tw_buckets = 131072" in text
    assert "TcpExtTCPTimeWaitOverflow = 7" in text


def test_close_wait_is_sorted_by_recv_q_and_shows_the_owner() -> None:
    def row(recv_q: int, inode: int) -> Socket:
        return Socket(
            State.CLOSE_WAIT, "::1", 443, "2001:db8::9", 5000 + recv_q, recv_q=recv_q, inode=inode
        )

    owner = Owner(pid=4711, name="worker\x1b[31m", user="www")
    snapshot = _snapshot(row(0, 10), row(0, 11), row(1, 12), row(51, 13), owners={13: (owner,)})
    text = _text(State.CLOSE_WAIT, snapshot)
    assert "4 sockets in CLOSE_WAIT" in text
    assert "drained, not closed: 2; only FIN unread: 1; data unread: 1" in text
    assert "never accepted: 0" in text
    assert "[::1]:443 -> [2001:db8::9]:5051, Recv-Q 51, Send-Q 0, held by" in text
    assert "[4711]" in text
    assert "\x1b" not in text


def test_fin_wait2_tells_orphans_from_held_ones() -> None:
    orphan = Socket(State.FIN_WAIT2, "10.0.0.1", 80, "10.0.0.9", 1, TIMER_TIME_WAIT, 9_000)
    held = Socket(State.FIN_WAIT2, "10.0.0.1", 80, "10.0.0.9", 2, inode=5)
    text = _text(
        State.FIN_WAIT2, _snapshot(orphan, held, held, sysctls={"net.ipv4.tcp_fin_timeout": "10"})
    )
    assert "after close(): 1; still held by an application: 2" in text
    assert "net.ipv4.tcp_fin_timeout = 10" in text


def test_fin_wait1_shows_the_retries() -> None:
    row = Socket(State.FIN_WAIT1, "10.0.0.1", 80, "10.0.0.9", 1, TIMER_RETRANSMIT, 6_400, 5, 0, 1)
    text = _text(State.FIN_WAIT1, _snapshot(row))
    assert "1 socket in FIN_WAIT1" in text
    assert "resends in 6 s, 5 retries" in text


def test_a_listener_shows_its_queue_and_the_fullest_one_first() -> None:
    rows = [
        Socket(State.LISTEN, "0.0.0.0", port, "0.0.0.0", 0, recv_q=waiting, send_q=128)
        for port, waiting in ((80, 0), (443, 17))
    ]
    text = _text(State.LISTEN, _snapshot(*rows))
    assert "0.0.0.0:443, 17 waiting for accept(), backlog 128" in text


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_none_now_is_said(state: State) -> None:
    assert "None now" in _text(state, _snapshot())
    assert example(state, _snapshot()) is None


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_not_seen_is_never_none(state: State) -> None:
    gap = Gap("sockets", "the kernel refuses the dump", "run as root")
    text = _text(state, _snapshot(gaps=(gap,)))
    assert "Not seen: the kernel refuses the dump. run as root" in text
    assert "None now" not in text


def test_a_column_that_was_not_seen_is_not_counted() -> None:
    row = Socket(State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.9", 1)
    gaps = (Gap("queues", "psutil drops them", ""), Gap("inodes", "psutil drops them", ""))
    text = _text(State.CLOSE_WAIT, _snapshot(row, gaps=gaps))
    assert "1 socket in CLOSE_WAIT" in text
    assert "drained" not in text
    assert "never accepted" not in text
    timers = (Gap("timers", "psutil drops them", ""),)
    assert "last minute" not in _text(State.TIME_WAIT, _snapshot(_time_wait(1, 0), gaps=timers))


def _rule(name: str, snapshot: Snapshot) -> str:
    report = analyze(snapshot, DEFAULTS, choose([name]))
    return "\n".join(line.text for line in set_blocks(rule_now(report, snapshot)))


def test_a_rule_shows_its_findings_and_a_row() -> None:
    listener = Socket(State.LISTEN, "0.0.0.0", 8080, "0.0.0.0", 0, send_q=128, inode=3)
    rows = [_time_wait(40000 + n, 59_000 - 100 * n) for n in range(300)]
    text = _rule("server-closes-first", _snapshot(listener, *rows))
    assert "notice: " in text
    assert "8080" in text
    assert "One of the sockets in TIME_WAIT:" in text
    assert "10.0.0.1:8080 -> 10.0.0.9:40000" in text


def test_a_rule_that_finds_nothing_says_so() -> None:
    assert "None now: this rule finds nothing" in _rule("server-closes-first", _snapshot())


def test_a_rule_that_could_not_look_says_so() -> None:
    gap = Gap("sockets", "the dump was refused", "run as root")
    text = _rule("server-closes-first", _snapshot(gaps=(gap,)))
    assert "Not checked: the dump was refused. run as root" in text
