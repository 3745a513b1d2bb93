"""The table of connection tracking: how full, of what, and what was dropped."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.made import analyze, found, limits_of, only_finding, report_of, snapshot_of
from tests.sources.live.confinement import in_child
from tests.sources.live.netfilter.test_ctnetlink import attribute, ends
from twdiag import sources
from twdiag.errors import SourceRefused
from twdiag.lab.network import enter_private
from twdiag.model.conntrack import Conntrack, ConntrackCounters
from twdiag.model.findings import Severity

if TYPE_CHECKING:
    from twdiag.model.snapshot import Snapshot

RULE = "conntrack-filling"


def firewall(
    entries: int, states: dict[str, int] | None = None, others: int = 0, maximum: int = 1000
) -> Snapshot:
    """Return a snapshot of a host whose table has so many entries."""
    seen = Conntrack(ConntrackCounters(entries, 7, 8, 9), maximum, None, states or {}, others)
    return snapshot_of(conntrack=seen, counters=seen.counted)


def later(snapshot: Snapshot, failed: int = 0, drop: int = 0, early: int = 0) -> Snapshot:
    """Return the snapshot as the second of two, between which counters grew."""
    before = snapshot._replace(taken_at=snapshot.taken_at - 10)
    grown = {"insert_failed": failed, "drop": drop, "early_drop": early}
    counters = {n: v + grown[n.partition(".")[2]] for n, v in snapshot.counters.items()}
    return snapshot._replace(counters=counters, earlier=before)


@pytest.mark.parametrize(
    ("entries", "severity"),
    [(749, None), (750, Severity.WARNING), (899, Severity.WARNING), (900, Severity.CRITICAL)],
)
def test_the_table_has_levels(entries: int, severity: Severity | None) -> None:
    assert found(firewall(entries)).get(RULE) is severity


def test_the_limits_are_settings() -> None:
    assert found(firewall(600), conntrack_warning=0.5) == {RULE: Severity.WARNING}


@pytest.mark.parametrize(
    ("entries", "grown", "severity"),
    [
        (100, {}, None),
        (100, {"drop": 5, "failed": 5}, None),  # no port, or a race: not for want of a place
        (100, {"drop": 5}, None),  # other reasons: the table was never full
        (100, {"early": 1}, Severity.WARNING),  # only a full table throws entries out
        (100, {"early": 1, "drop": 5}, Severity.CRITICAL),
        (100, {"early": 1, "drop": 5, "failed": 5}, Severity.WARNING),
        (800, {"drop": 5}, Severity.CRITICAL),
        (800, {"drop": 5, "failed": 5}, Severity.WARNING),
    ],
)
def test_growth_is_what_proves_that_the_table_was_full(
    entries: int, grown: dict[str, int], severity: Severity | None
) -> None:
    assert found(later(firewall(entries), **grown)).get(RULE) is severity


def test_what_happened_since_boot_alone_does_not_alarm() -> None:
    assert found(firewall(100)) == {}


def test_a_counter_that_began_anew_tells_nothing() -> None:
    snapshot = later(firewall(800))
    assert snapshot.earlier is not None
    before = dict.fromkeys(snapshot.earlier.counters, 10_000)
    restarted = snapshot._replace(earlier=snapshot.earlier._replace(counters=before))
    finding = only_finding(restarted, RULE)
    assert (finding.severity, finding.evidence["new_table_drops"]) == (Severity.WARNING, None)


@pytest.mark.parametrize(
    ("states", "others", "said", "advice"),
    [
        ({"TIME_WAIT": 600, "ESTABLISHED": 200}, 0, "75 % of them in TIME_WAIT", "time_wait=30"),
        ({"ESTABLISHED": 800}, 0, "all of them in ESTABLISHED", "established=7440"),
        ({"ESTABLISHED": 100}, 700, "87 % of them not of TCP", "notrack"),
        ({"SYN_SENT": 800}, 0, "all of them in SYN_SENT", "a scan, a flood"),
        ({}, 0, "entries used (80 %)", "nf_conntrack_max=2000"),
    ],
)
def test_it_says_what_the_entries_are_and_what_to_do_about_them(
    states: dict[str, int], others: int, said: str, advice: str
) -> None:
    finding = only_finding(firewall(800, states, others), RULE)
    assert finding.summary.startswith("800 of 1,000 conntrack entries used (80 %)")
    assert said in finding.summary
    assert any(advice in one.how for one in finding.advice)
    assert finding.advice[0].how.startswith("conntrack -L")
    assert "nf_conntrack_max=2000" in finding.advice[-1].how


@pytest.mark.parametrize(("entries", "command"), [(999, "conntrack -L"), (1000, "sysctl -w")])
def test_a_full_table_gets_room_before_anybody_looks_into_it(entries: int, command: str) -> None:
    assert only_finding(firewall(entries)).advice[0].how.startswith(command)


def test_drops_end_the_sentence() -> None:
    finding = only_finding(later(firewall(980), drop=12, failed=2, early=3), RULE)
    assert finding.summary.endswith("; 10 packets dropped between the two samples")
    assert finding.evidence["new_evictions"] == 3
    assert finding.evidence["table_drops"] == 20
    assert "nf_conntrack_max=2000" in finding.advice[0].how, "room first, while packets are lost"


@pytest.mark.parametrize(
    "seen",
    [
        None,
        Conntrack(),
        Conntrack(ConntrackCounters(0, 0, 0, 0), 1000),
        Conntrack(ConntrackCounters(5, 0, 0, 0), None),
        Conntrack(ConntrackCounters(5, 0, 0, 0), 0),
    ],
)
def test_where_nothing_is_tracked_nothing_is_said(seen: Conntrack | None) -> None:
    report = report_of(snapshot_of(conntrack=seen), RULE)
    assert (report.findings, report.skipped, report.gaps) == ((), (), ())


def new_entries(number: int) -> bytes:
    """Return requests to the kernel for so many entries, nine in ten of them in TIME_WAIT."""
    requests = []
    for i, port in zip(range(number), itertools.count(1025), strict=False):
        client, server = f"10.1.{i >> 8 & 255}.{i & 255}", "10.2.0.1"
        state = attribute(0x8001, attribute(1, bytes([3 if i % 10 == 0 else 7])))
        body = (
            bytes([socket.AF_INET, 0, 0, 0])
            + attribute(0x8001, ends(client, port, server, 443))
            + attribute(0x8002, ends(server, 443, client, port))
            + attribute(3, struct.pack("!I", 0xE))  # seen a reply, assured, confirmed
            + attribute(7, struct.pack("!I", 60))
            + attribute(0x8004, state)
        )
        # IPCTNL_MSG_CT_NEW; NLM_F_REQUEST | NLM_F_EXCL | NLM_F_CREATE
        requests.append(struct.pack("=IHHII", 16 + len(body), 0x100, 0x601, i, 0) + body)
    return b"".join(requests)


def fill() -> Snapshot | str:
    """Fill the table of a private namespace by ctnetlink; return what is seen."""
    try:
        enter_private()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as channel:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
            channel.send(new_entries(2000))
    except (SourceRefused, OSError) as error:
        return str(error)
    return sources.collect()


def test_a_real_table_fills_by_its_own_limit_and_no_other() -> None:
    """nf_conntrack_max is the host's and stays what it is: the limit of the rule is lowered."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    seen = in_child(fill)
    if isinstance(seen, str):
        pytest.skip(f"no entry can be made: {seen}")
    snapshot, conntrack = seen, seen.conntrack
    assert conntrack is not None
    assert conntrack.counters is not None
    assert conntrack.counters.entries == 2000
    assert conntrack.maximum is not None
    assert conntrack.maximum > 0
    if conntrack.maximum < 4000:
        pytest.skip("this host's table is too small to be half empty")
    assert found(snapshot) == {}
    share = 2000 / conntrack.maximum
    told = analyze(snapshot, limits_of(conntrack_warning=share, conntrack_critical=1.0))
    assert [(f.rule, f.severity) for f in told.findings] == [(RULE, Severity.WARNING)]
