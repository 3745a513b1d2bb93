"""Settings that do not do what they are usually set for."""

from __future__ import annotations

import pytest

from tests.made import (
    SYSCTLS,
    closed_first,
    found,
    listening,
    only_finding,
    report_of,
    snapshot_of,
    time_wait,
)
from twdiag.model.findings import HostSubject, Severity

RULE = "misleading-sysctl"
IPV4 = "net.ipv4."


@pytest.mark.parametrize(
    ("name", "value", "waits", "fires"),
    [
        ("tcp_fin_timeout", "60", 30, False),
        ("tcp_fin_timeout", "15", 0, False),
        ("tcp_fin_timeout", "15", 30, True),
        ("tcp_fin_timeout", "61", 0, True),
        ("tcp_fin_timeout", "119", 0, True),
        ("tcp_fin_timeout", "120", 0, False),  # 2 x (120 - 60) s are 120 s again
        ("tcp_fin_timeout", "121", 0, True),
        ("tcp_tw_recycle", "1", 0, True),
        ("tcp_tw_recycle", "0", 0, False),
        ("tcp_max_tw_buckets", "1000", 0, True),
        ("tcp_max_tw_buckets", "65536", 0, False),
        ("tcp_tw_reuse", "1", 30, False),
    ],
)
def test_a_setting_misleads_only_where_it_does(
    name: str, value: str, waits: int, fires: bool
) -> None:
    snapshot = snapshot_of(*time_wait(waits), sysctls=SYSCTLS | {IPV4 + name: value})
    assert (RULE in found(snapshot)) is fires


def test_the_setting_its_value_and_the_remedy_are_told() -> None:
    snapshot = snapshot_of(sysctls=SYSCTLS | {IPV4 + "tcp_fin_timeout": "90"})
    finding = only_finding(snapshot)
    assert (finding.severity, finding.subject) == (Severity.NOTICE, HostSubject())
    assert finding.evidence == {"sysctl": "net.ipv4.tcp_fin_timeout", "value": "90"}
    assert finding.summary.endswith("orphans in FIN_WAIT2 then live 60 s, not 90")
    assert finding.advice[0].how == "sysctl -w net.ipv4.tcp_fin_timeout=60"
    assert finding.advice[0].verify == "sysctl net.ipv4.tcp_fin_timeout"


def test_reuse_misleads_where_only_servers_close_first_or_timestamps_are_off() -> None:
    reuse = SYSCTLS | {IPV4 + "tcp_tw_reuse": "1"}
    served = [listening(443), *closed_first(30)]
    assert RULE in found(snapshot_of(*served, sysctls=reuse))
    assert RULE not in found(snapshot_of(*served, *time_wait(1), sysctls=reuse))
    off = reuse | {IPV4 + "tcp_timestamps": "0"}
    assert RULE in found(snapshot_of(sysctls=off))


def test_a_small_hash_table_has_a_small_default_and_nobody_lowered_it() -> None:
    sysctls = SYSCTLS | {IPV4 + "tcp_ehash_entries": "4096", IPV4 + "tcp_max_tw_buckets": "2048"}
    assert found(snapshot_of(sysctls=sysctls)) == {}


def test_each_setting_is_a_finding() -> None:
    sysctls = SYSCTLS | {IPV4 + "tcp_fin_timeout": "90", IPV4 + "tcp_tw_recycle": "1"}
    names = [f.evidence["sysctl"] for f in report_of(snapshot_of(sysctls=sysctls)).findings]
    assert names == ["net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_tw_recycle"]
