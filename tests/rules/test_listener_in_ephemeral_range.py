"""Fixed ports where the kernel takes ports for outgoing connections."""

from __future__ import annotations

from tests.made import SYSCTLS, found, listening, only_finding, report_of, snapshot_of
from twdiag.model.findings import ListenerSubject, Severity
from twdiag.model.snapshot import Gap

RULE = "listener-in-ephemeral-range"
RESERVED = "net.ipv4.ip_local_reserved_ports"
LOCAL = listening(40001, "127.0.0.1", auto_bound=False)


def test_a_fixed_port_in_the_range_is_a_notice() -> None:
    assert found(snapshot_of(LOCAL)) == {RULE: Severity.NOTICE}
    finding = only_finding(snapshot_of(LOCAL))
    assert finding.subject == ListenerSubject("127.0.0.1", 40001)
    evidence = finding.evidence
    assert (evidence["listeners"], evidence["service_ports"]) == (1, [40001])
    assert (evidence["range_low"], evidence["range_high"]) == (32768, 60999)
    assert evidence["range_widened"] is False


def test_a_port_below_the_range_or_reserved_is_safe() -> None:
    assert found(snapshot_of(listening(8080, auto_bound=False))) == {}
    assert found(snapshot_of(LOCAL, sysctls=SYSCTLS | {RESERVED: "40001"})) == {}


def test_a_port_that_the_kernel_chose_is_nobodys_fixed_port() -> None:
    assert found(snapshot_of(LOCAL._replace(auto_bound=True))) == {}
    copies = [LOCAL._replace(auto_bound=True), LOCAL._replace(cookie=998)]
    assert found(snapshot_of(*copies)) == {RULE: Severity.NOTICE}


def test_many_fixed_ports_are_one_finding_with_one_command() -> None:
    rows = [listening(40000 + i, inode=5 + i, cookie=i, auto_bound=False) for i in range(60)]
    finding = only_finding(snapshot_of(*rows, sysctls=SYSCTLS | {RESERVED: "50000"}))
    assert finding.rule == RULE
    assert finding.advice[0].how.endswith("=40000-40059,50000")
    assert finding.evidence["listeners"] == 60
    assert finding.summary.startswith("60 servers (the server on 0.0.0.0:40000 and others) listen")


def test_a_range_that_was_widened_over_a_server_is_to_blame() -> None:
    sysctls = SYSCTLS | {"net.ipv4.ip_local_port_range": "1024 65535"}
    snapshot = snapshot_of(listening(8080, auto_bound=False), sysctls=sysctls)
    finding = only_finding(snapshot)
    assert finding.evidence["range_widened"] is True
    assert "1024-65535, which was widened over them" in finding.summary


def test_a_source_that_does_not_ask_how_ports_were_bound_does_not_judge() -> None:
    gap = Gap("bind-mode", "old kernel", "")
    report = report_of(snapshot_of(LOCAL._replace(auto_bound=None), gaps=(gap,)))
    assert report.findings == ()
    assert [skip.rule for skip in report.skipped] == [RULE]
