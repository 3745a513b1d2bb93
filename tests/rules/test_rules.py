"""Every rule on real sockets: the confusion table, and what each rule says beyond it."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from twdiag import lab, rules
from twdiag.model.? import SocketTable
from twdiag.model.sockets import TIMER_KEEPALIVE, TIMER_TIME_WAIT, Socket
from twdiag.errors import UsageError
from twdiag.model.findings import ListenerSubject, ProcessSubject, Severity
from twdiag.model.snapshot import Gap, Host, Owner, Snapshot
from twdiag.model.sockets import TcpInfo
from twdiag.model.limits import Limits
from twdiag.rules import manual
from twdiag.tcp import State
from twdiag.wording import visible

if TYPE_CHECKING:
    from tests.conftest import Played

SCENARIOS = {scenario.name: scenario for scenario in lab.SCENARIOS}
SYSCTLS = {
    "net.ipv4.ip_local_port_range": "32768 60999",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.tcp_fin_timeout": "60",
    "net.ipv4.tcp_max_tw_buckets": "131072",
    "net.ipv4.tcp_max_orphans": "65536",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_ehash_entries": "262144",
    "net.core.somaxconn": "4096",
}


def snapshot_of(*rows: Socket, **changes: object) -> Snapshot:
    """Return a snapshot of a host with these sockets and Linux's default sysctls."""
    table = SocketTable.of(rows)
    waiting = sum(1 for row in rows if row.timer == TIMER_TIME_WAIT)
    base = Snapshot(
        taken_at=1_000_000.0,
        host=Host("host", "6.1"),
        source="netlink",
        sockets=table,
        counters={"TcpExt.ListenOverflows": 0, "TcpExt.TCPTimeWaitOverflow": 0},
        sockstat={"TCP.tw": waiting, "TCP.orphan": 0},
        sysctls=SYSCTLS,
        auto_bound=frozenset(),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def found(snapshot: Snapshot, **limits: float) -> dict[str, Severity]:
    """Return {rule: worst severity} of a snapshot."""
    values = {name.replace("_", "-"): value for name, value in limits.items()}
    report = rules.analyze(snapshot, Limits().replaced(values, "test"))
    result: dict[str, Severity] = {}
    for finding in report.findings:
        result[finding.rule] = max(finding.severity, result.get(finding.rule, Severity.OK))
    return result


def time_wait(
    n: int, *, port: int = 0, to: str = "10.0.0.5", dport: int = 5432, age: float = 5
) -> list[Socket]:
    """Return TIME_WAITs of a client of this host, on n different local ports."""
    first = port or 32768
    return [
        Socket(
            State.TIME_WAIT,
            "10.0.0.1",
            first + i,
            to,
            dport,
            TIMER_TIME_WAIT,
            int(60000 - age * 1000),
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_exactly_the_expected_rules_fire(name: str, played: dict[str, Played]) -> None:
    expected = sorted((e.rule, e.severity) for e in SCENARIOS[name].expects)
    report = played[name].report
    assert sorted((f.rule, f.severity.label) for f in report.findings) == expected
    for wanted in SCENARIOS[name].expects:
        evidence = [f.evidence for f in report.findings if f.rule == wanted.rule]
        assert any(wanted.evidence.items() <= dict(e).items() for e in evidence), evidence


def test_every_rule_fires_in_some_scenario_and_is_silent_in_another() -> None:
    fired = {e.rule for scenario in lab.SCENARIOS for e in scenario.expects}
    assert fired == {rule.name for rule in rules.RULES}
    for rule in rules.RULES:
        silent = [s for s in lab.SCENARIOS if all(e.rule != rule.name for e in s.expects)]
        assert silent, rule.name


def test_an_empty_host_gives_no_finding_and_skips_nothing() -> None:
    report = rules.analyze(snapshot_of(), Limits())
    assert (report.findings, report.skipped, report.status) == ((), (), Severity.OK)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_each_rule_has_a_whole_manual(rule: rules.Rule) -> None:
    parts = manual.sections(rule.manual)
    assert list(parts) == ["", *manual.HEADINGS]
    assert all(parts.values())
    assert rule.manual.splitlines()[0].endswith(".")


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_a_rule_whose_need_was_not_seen_is_skipped_with_the_reason(rule: rules.Rule) -> None:
    for need in rule.needs:
        gaps = tuple(Gap(part, f"no {part}", "look") for part in need.split("|"))
        report = rules.analyze(snapshot_of(gaps=gaps), Limits(), [rule])
        assert [skip.rule for skip in report.skipped] == [rule.name]
        assert report.skipped[0].reason.startswith("no ")


def test_every_number_of_a_summary_is_in_the_evidence(played: dict[str, Played]) -> None:
    for name, play in played.items():
        for finding in play.report.findings:
            known = [dataclasses.asdict(finding.subject), *finding.evidence.values()]
            numbers = [v for v in finding.evidence.values() if isinstance(v, (int, float))]
            for word in re.findall(r"(?<![\w.:])\d[\d,]*(?![\w.]*\d)", finding.summary):
                value = int(word.replace(",", ""))
                near = any(abs(n - value) <= 1 or abs(100 * n - value) <= 1 for n in numbers)
                assert near or str(value) in str(known), (name, finding.summary, word)


def test_a_leak_names_its_process_and_bounds_its_age(played: dict[str, Played]) -> None:
    play = played["close-wait-leak"]
    finding = play.report.findings[0]
    assert isinstance(finding.subject, ProcessSubject)
    assert finding.subject.pid == play.pids["leaky"]
    assert finding.evidence["recv_q"] == 0
    low, high = finding.evidence["age_seconds_min"], finding.evidence["age_seconds_max"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low <= high + 0.02
    assert 11.5 <= high < 30


def test_the_server_that_closes_first_is_named(played: dict[str, Played]) -> None:
    play = played["server-closes-first"]
    subject = play.report.findings[0].subject
    assert isinstance(subject, ListenerSubject)
    assert [owner.pid for owner in subject.processes] == [play.pids["server"]]
    assert subject.port == 8080


def test_the_history_matches_a_known_closing_schedule_within_a_second(
    played: dict[str, Played],
) -> None:
    play = played["closing-schedule"]
    closes = play.notes["closes"]
    assert isinstance(closes, list)
    history = play.report.findings[0].evidence["closes_per_second_history"]
    assert isinstance(history, list)
    assert sum(history) == len(closes)
    ages = sorted(play.snapshot.taken_at - wall for _, wall in closes)
    seen = sorted(59 - i for i, number in enumerate(history) for _ in range(int(number)))
    for age, second in zip(ages, seen, strict=True):
        assert second - 1 <= age <= second + 2


def test_a_hostile_process_name_is_kept_whole_but_never_shown_raw(
    played: dict[str, Played],
) -> None:
    finding = played["hostile-name"].report.findings[0]
    assert "\x1b" in finding.summary
    shown = visible(finding.summary)
    assert "\x1b" not in shown
    assert "\n" not in shown


# Severity and false alarms: tables made by hand, where a live host would need minutes or luck.


def test_many_server_side_time_waits_are_only_a_notice() -> None:
    rows = [Socket(State.LISTEN, "0.0.0.0", 443, "0.0.0.0", 0, inode=7, send_q=511)]
    rows += [
        Socket(State.TIME_WAIT, "10.0.0.1", 443, f"10.1.{i // 200}.{i % 200}", 40000 + i, 3, 30000)
        for i in range(5000)
    ]
    assert found(snapshot_of(*rows)) == {"server-closes-first": Severity.NOTICE}


def test_a_busy_proxy_with_pools_is_quiet() -> None:
    rows = [Socket(State.LISTEN, "0.0.0.0", 443, "0.0.0.0", 0, inode=7, send_q=511)]
    rows += [
        Socket(
            State.ESTABLISHED, "10.0.0.1", 443, f"10.1.{i // 200}.{i % 200}", 40000, inode=100 + i
        )
        for i in range(8000)
    ]
    for backend in range(8):  # connect() takes even ports first, and shares them
        rows += [
            Socket(State.ESTABLISHED, "10.0.0.1", 32768 + 2 * i, f"10.2.0.{backend}", 8080, inode=9)
            for i in range(1000)
        ]
    assert found(snapshot_of(*rows)) == {}


def test_ports_are_judged_per_destination_not_in_sum() -> None:
    rows = [s for host in range(4) for s in time_wait(9000, to=f"10.0.1.{host}")]
    assert "ports-running-out" not in found(snapshot_of(*rows), connection_churn=10000)


@pytest.mark.parametrize(
    ("used", "severity"),
    [
        (14000, None),
        (14200, Severity.NOTICE),
        (20000, Severity.WARNING),
        (25500, Severity.CRITICAL),
    ],
)
def test_the_port_budget_has_four_levels(used: int, severity: Severity | None) -> None:
    result = found(snapshot_of(*time_wait(used)))
    assert result.get("ports-running-out") == severity


def test_reserved_ports_and_listeners_shrink_the_budget() -> None:
    sysctls = SYSCTLS | {
        "net.ipv4.ip_local_port_range": "40000 40099",
        "net.ipv4.ip_local_reserved_ports": "40090-40099",
    }
    listener = Socket(State.LISTEN, "127.0.0.9", 40080, "0.0.0.0", 0, inode=5, send_q=9)
    rows = time_wait(80, port=40000)
    snapshot = snapshot_of(listener, *rows, sysctls=sysctls)
    report = rules.analyze(snapshot, Limits(), rules.choose(["ports-running-out"]))
    evidence = report.findings[0].evidence
    assert (evidence["ports"], evidence["used"]) == (89, 80)
    assert (evidence["reserved_ports"], evidence["blocked_ports"]) == (10, 1)


def test_reuse_needs_timestamps_and_mode_two_only_serves_loopback() -> None:
    rows = time_wait(26000)
    for changes, severity in (
        ({"net.ipv4.tcp_tw_reuse": "0"}, Severity.CRITICAL),
        ({"net.ipv4.tcp_tw_reuse": "2"}, Severity.CRITICAL),
        ({"net.ipv4.tcp_tw_reuse": "1"}, Severity.NOTICE),
        ({"net.ipv4.tcp_tw_reuse": "1", "net.ipv4.tcp_timestamps": "0"}, Severity.CRITICAL),
    ):
        assert found(snapshot_of(*rows, sysctls=SYSCTLS | changes))["ports-running-out"] == severity
    loopback = [row._replace(local_address="127.0.0.1", remote_address="127.0.0.1") for row in rows]
    assert found(snapshot_of(*loopback))["ports-running-out"] == Severity.NOTICE


def test_a_sustained_rate_that_fills_the_ports_is_a_warning_before_they_are_full() -> None:
    rows, port = [], 32768
    for second in range(12):
        rows += time_wait(500, port=port, age=second + 0.5)
        port += 500
    report = rules.analyze(snapshot_of(*rows), Limits(), rules.choose(["ports-running-out"]))
    finding = report.findings[0]
    assert finding.severity is Severity.WARNING
    assert finding.evidence["projected"] == 30000
    seconds = finding.evidence["seconds_to_exhaustion"]
    assert isinstance(seconds, float)
    assert 40 <= seconds <= 60  # (28232 - 6000) / 500 = 44.5, and the oldest leave from 48 s on


def test_one_burst_is_not_taken_for_a_rate() -> None:
    assert found(snapshot_of(*time_wait(5000, age=0.5)), connection_churn=9999) == {}


def test_at_the_cap_the_use_of_ports_is_called_a_lower_bound() -> None:
    rows = time_wait(20000)
    sysctls = SYSCTLS | {"net.ipv4.tcp_max_tw_buckets": "20000"}
    report = rules.analyze(snapshot_of(*rows, sysctls=sysctls), Limits())
    ports = next(f for f in report.findings if f.rule == "ports-running-out")
    assert ports.evidence["lower_bound"] is True
    assert "at least 20,000" in ports.summary


def close_wait(
    n: int, *, inode: int = 100, recv_q: int = 0, server: bool = True, timer: int = 0
) -> list[Socket]:
    """Return n accepted CLOSE_WAITs with cookies 1..n."""
    return [
        Socket(
            State.CLOSE_WAIT,
            "10.0.0.1",
            8080 if server else 40000 + 2 * i,
            "10.0.0.9" if server else "10.0.0.5",
            50000 + i if server else 5432,
            timer,
            recv_q=recv_q,
            uid=33,
            inode=inode + i if inode else 0,
            cookie=1 + i,
        )
        for i in range(n)
    ]


LISTEN_8080 = Socket(State.LISTEN, "0.0.0.0", 8080, "0.0.0.0", 0, inode=7, send_q=511, cookie=999)


def aged(n: int, seconds: float) -> dict[int, TcpInfo]:
    """Return tcp_info for the cookies 1..n of sockets that wait so long."""
    milliseconds = int(seconds * 1000)
    return {cookie: TcpInfo(0, milliseconds, milliseconds) for cookie in range(1, n + 1)}


def held(n: int, fds: int, limit: int, pid: int = 812) -> dict[int, tuple[Owner, ...]]:
    """Return one process as the owner of the inodes 100.. of n sockets."""
    return {100 + i: (Owner(pid, "java", "app", fds, limit),) for i in range(n)}


@pytest.mark.parametrize(
    ("number", "age", "limit", "severity"),
    [
        (4, 3600, 1024, None),
        (500, 3, 1024, None),
        (49, 3600, 1024, Severity.NOTICE),
        (50, 59, 1024, Severity.NOTICE),
        (50, 61, 1024, Severity.WARNING),
        (40, 20, 64, Severity.WARNING),
        (60, 20, 64, Severity.CRITICAL),
    ],
)
def test_a_leak_is_judged_by_number_age_and_descriptor_limit(
    number: int, age: float, limit: int, severity: Severity | None
) -> None:
    snapshot = snapshot_of(
        LISTEN_8080,
        *close_wait(number),
        tcp_info=aged(number, age),
        owners=held(number, number + 6, limit),
    )
    assert found(snapshot).get("close-wait-leak") == severity


def test_leaks_of_two_processes_are_two_findings() -> None:
    owners = held(5, 20, 1024) | {
        100 + i: (Owner(900, "node", "app", 20, 1024),) for i in range(5, 12)
    }
    snapshot = snapshot_of(LISTEN_8080, *close_wait(12), tcp_info=aged(12, 60), owners=owners)
    report = rules.analyze(snapshot, Limits())
    assert [f.evidence["close_wait"] for f in report.findings] == [7, 5]


def test_without_rights_a_leak_is_still_found_and_its_user_named() -> None:
    snapshot = snapshot_of(LISTEN_8080, *close_wait(5), tcp_info=aged(5, 60))
    finding = rules.analyze(snapshot, Limits()).findings[0]
    assert finding.rule == "close-wait-leak"
    assert finding.subject == ProcessSubject(None, "unseen process", "uid 33")


def answered_by_keepalive(n: int) -> dict[int, TcpInfo]:
    """Return tcp_info of old sockets whose peer has answered a keepalive probe a second ago."""
    return {cookie: TcpInfo(0, 3_600_000, 1000) for cookie in range(1, n + 1)}


def test_keepalive_hides_an_age_and_the_report_says_so() -> None:
    rows = close_wait(9, timer=TIMER_KEEPALIVE)
    quiet = snapshot_of(LISTEN_8080, *rows, tcp_info=answered_by_keepalive(9))
    report = rules.analyze(quiet, Limits())
    assert report.findings == ()
    assert [gap.what for gap in report.gaps] == ["close-wait-age"]
    loud = snapshot_of(LISTEN_8080, *rows, tcp_info=aged(9, 60))
    assert found(loud) == {"close-wait-leak": Severity.NOTICE}


def test_two_samples_give_an_age_where_one_gives_none() -> None:
    rows = (LISTEN_8080, *close_wait(9, timer=TIMER_KEEPALIVE))
    earlier = snapshot_of(*rows, taken_at=999_985.0)
    info = answered_by_keepalive(9)
    assert found(snapshot_of(*rows, tcp_info=info, earlier=earlier)) == {
        "close-wait-leak": Severity.NOTICE
    }
    gaps = (Gap("tcp-info", "proc", ""),)
    assert found(snapshot_of(*rows, earlier=earlier, gaps=gaps)) != {}


def test_a_leak_spread_over_workers_is_one_leak() -> None:
    owners = {100 + i: (Owner(900 + i, "apache2", "www", 12, 1024),) for i in range(100)}
    snapshot = snapshot_of(LISTEN_8080, *close_wait(100), tcp_info=aged(100, 3600), owners=owners)
    report = rules.analyze(snapshot, Limits())
    assert [f.severity for f in report.findings] == [Severity.WARNING]
    assert report.findings[0].summary.startswith("apache2 (100 processes) holds 100 CLOSE_WAITs")


def test_a_slow_server_that_has_read_the_request_is_not_called_stuck() -> None:
    rows = close_wait(9, recv_q=1)
    assert found(snapshot_of(LISTEN_8080, *rows, tcp_info=aged(9, 20))) == {
        "close-wait-unread": Severity.NOTICE
    }
    rows = close_wait(60, recv_q=1)
    assert found(snapshot_of(LISTEN_8080, *rows, tcp_info=aged(60, 70))) == {
        "close-wait-unread": Severity.WARNING
    }


def test_a_tls_close_notify_is_no_unread_request() -> None:
    rows = close_wait(9, recv_q=25)
    assert found(snapshot_of(LISTEN_8080, *rows, tcp_info=aged(9, 20))) == {
        "close-wait-unread": Severity.NOTICE
    }


@pytest.mark.parametrize("recv_q", [1, 400])
def test_a_client_that_leaks_is_told_from_a_pool_by_its_growth(recv_q: int) -> None:
    rows = close_wait(300, recv_q=recv_q, server=False)
    info = aged(300, 90)
    for earlier, worst in ((rows, Severity.NOTICE), (rows[:100], Severity.WARNING)):
        before = snapshot_of(*earlier, taken_at=999_900.0)
        report = rules.analyze(snapshot_of(*rows, tcp_info=info, earlier=before), Limits())
        assert report.status is worst


def test_the_connections_of_a_service_whose_listener_has_gone_are_no_clients_pool() -> None:
    rows = close_wait(9, recv_q=1)
    snapshot = snapshot_of(*rows, tcp_info=aged(9, 20))
    assert "close-wait-idle-pool" not in found(snapshot)


@pytest.mark.parametrize(
    ("counters", "earlier", "severity"),
    [
        ({"TcpExt.ListenOverflows": 0}, None, Severity.NOTICE),
        ({"TcpExt.ListenOverflows": 7}, None, Severity.NOTICE),
        ({"TcpExt.ListenOverflows": 7}, {"TcpExt.ListenOverflows": 3}, Severity.CRITICAL),
    ],
)
def test_one_full_instant_of_an_accept_queue_is_no_outage(
    counters: dict[str, int], earlier: dict[str, int] | None, severity: Severity
) -> None:
    full = LISTEN_8080._replace(recv_q=129, send_q=128)
    before = None if earlier is None else snapshot_of(LISTEN_8080, counters=earlier)
    assert found(snapshot_of(full, counters=counters, earlier=before)) == {
        "accept-queue-full": severity
    }


def test_connections_refused_between_two_samples_are_told_though_no_queue_is_full_now() -> None:
    before = snapshot_of(LISTEN_8080, counters={"TcpExt.ListenOverflows": 4})
    now = snapshot_of(LISTEN_8080, counters={"TcpExt.ListenOverflows": 1150}, earlier=before)
    finding = rules.analyze(now, Limits()).findings[0]
    assert (finding.rule, finding.severity) == ("accept-queue-full", Severity.WARNING)
    assert finding.evidence["new_listen_overflows"] == 1146


def test_an_accept_queue_that_is_full_in_two_samples_is_critical() -> None:
    full = LISTEN_8080._replace(recv_q=129, send_q=128)
    result = found(snapshot_of(full, earlier=snapshot_of(full, taken_at=999_990.0)))
    assert result == {"accept-queue-full": Severity.CRITICAL}


def bound(number: int) -> list[Socket]:
    """Return connections of sockets bound to (address, 0) first, spread over four destinations."""
    odd_first = [*range(40001, 40100, 2), *range(40000, 40100, 2)][:number]
    return [
        Socket(State.ESTABLISHED, "10.0.0.1", port, f"10.2.0.{i % 4}", 8080, inode=9)
        for i, port in enumerate(odd_first)
    ]


@pytest.mark.parametrize(
    ("number", "severity"),
    [(60, None), (75, Severity.NOTICE), (85, Severity.WARNING), (100, Severity.CRITICAL)],
)
def test_bound_ports_alarm_up_to_the_last_port(number: int, severity: Severity | None) -> None:
    sysctls = SYSCTLS | {"net.ipv4.ip_local_port_range": "40000 40099"}
    result = found(snapshot_of(*bound(number), sysctls=sysctls))
    assert result.get("bound-ports-running-out") == severity


def test_reuse_that_never_happened_is_not_trusted_once_the_ports_are_full() -> None:
    sysctls = SYSCTLS | {
        "net.ipv4.ip_local_port_range": "40000 40099",
        "net.ipv4.tcp_tw_reuse": "1",
    }
    rows = time_wait(100, port=40000)
    for recycled, severity in ((0, Severity.WARNING), (900, Severity.NOTICE)):
        snapshot = snapshot_of(*rows, sysctls=sysctls, counters={"TcpExt.TWRecycled": recycled})
        assert found(snapshot)["ports-running-out"] == severity


def test_a_range_without_any_free_port_is_critical_before_the_first_connection() -> None:
    sysctls = SYSCTLS | {
        "net.ipv4.ip_local_port_range": "40000 40009",
        "net.ipv4.ip_local_reserved_ports": "40000-40009",
    }
    assert found(snapshot_of(sysctls=sysctls)) == {"ports-running-out": Severity.CRITICAL}


def test_growth_since_the_first_sample_is_said() -> None:
    rows = close_wait(12)
    earlier = snapshot_of(LISTEN_8080, *rows[:5], taken_at=999_990.0)
    snapshot = snapshot_of(LISTEN_8080, *rows, tcp_info=aged(12, 15), earlier=earlier)
    finding = rules.analyze(snapshot, Limits()).findings[0]
    assert finding.evidence["new_since_first_sample"] == 7
    assert "7 of them new" in finding.summary


def test_time_to_emfile_comes_from_two_samples() -> None:
    rows = (LISTEN_8080, *close_wait(60))
    earlier = snapshot_of(*rows, taken_at=999_990.0, owners=held(60, 80, 100))
    snapshot = snapshot_of(*rows, tcp_info=aged(60, 90), owners=held(60, 90, 100), earlier=earlier)
    report = rules.analyze(snapshot, Limits(), rules.choose(["fd-limit-near"]))
    assert report.findings[0].evidence["seconds_to_exhaustion"] == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("fds_before", "severity"), [(100, Severity.CRITICAL), (155, Severity.WARNING), (159, None)]
)
def test_a_leak_that_reaches_the_limit_soon_alarms_before_it_is_near(
    fds_before: int, severity: Severity | None
) -> None:
    rows = (LISTEN_8080, *close_wait(120))
    earlier = snapshot_of(*rows, taken_at=999_990.0, owners=held(120, fds_before, 400))
    now = held(120, 160, 400)
    snapshot = snapshot_of(*rows, tcp_info=aged(120, 20), owners=now, earlier=earlier)
    assert found(snapshot).get("fd-limit-near") == severity


def test_without_rights_the_descriptor_limit_is_not_judged_and_that_is_said() -> None:
    gap = Gap("owners", "the owners of 9 sockets are not visible", "run as root", partial=True)
    snapshot = snapshot_of(LISTEN_8080, *close_wait(9), tcp_info=aged(9, 60), gaps=(gap,))
    report = rules.analyze(snapshot, Limits())
    assert [skip.rule for skip in report.skipped] == ["fd-limit-near"]


def test_one_dead_destination_of_many_is_a_notice() -> None:
    dead = [
        Socket(State.FIN_WAIT1, "10.0.0.1", 40001 + 2 * i, "10.9.0.9", 443, 1, 900, 4)
        for i in range(6)
    ]
    healthy = [
        Socket(State.ESTABLISHED, "10.0.0.1", 42000 + 2 * i, "10.9.0.1", 443, inode=9)
        for i in range(800)
    ]
    assert found(snapshot_of(*dead)) == {"fin-unanswered": Severity.WARNING}
    assert found(snapshot_of(*dead, *healthy)) == {"fin-unanswered": Severity.NOTICE}


def test_a_small_idle_pool_is_quiet_and_a_pool_is_no_leak() -> None:
    few = close_wait(4, recv_q=1, server=False)
    assert found(snapshot_of(*few, tcp_info=aged(4, 600))) == {}
    more = close_wait(30, recv_q=25, server=False)
    assert found(snapshot_of(*more, tcp_info=aged(30, 600))) == {
        "close-wait-idle-pool": Severity.NOTICE
    }


def test_overflow_between_two_samples_is_critical_even_with_a_half_empty_table() -> None:
    earlier = snapshot_of(taken_at=999_990.0)
    counters = {"TcpExt.TCPTimeWaitOverflow": 12}
    result = found(snapshot_of(counters=counters, earlier=earlier))
    assert result == {"time-wait-table-filling": Severity.CRITICAL}


def test_an_overflow_counted_long_ago_does_not_alarm() -> None:
    assert found(snapshot_of(counters={"TcpExt.TCPTimeWaitOverflow": 12})) == {}


def unanswered(n: int, *, clients: int = 1) -> list[Socket]:
    """Return FIN_WAIT1s of a server to so many clients, each retransmitted four times."""
    return [
        Socket(State.FIN_WAIT1, "10.0.0.1", 443, f"10.3.0.{i % clients}", 50000 + i, 1, 900, 4)
        for i in range(n)
    ]


def served(n: int) -> list[Socket]:
    """Return the listener on port 443 and n of its connections."""
    listener = Socket(State.LISTEN, "0.0.0.0", 443, "0.0.0.0", 0, inode=7, send_q=511)
    return [listener] + [
        Socket(State.ESTABLISHED, "10.0.0.1", 443, "10.3.0.1", 40000 + i, inode=9) for i in range(n)
    ]


@pytest.mark.parametrize(
    ("gone", "clients", "alive", "severity"),
    [
        (6, 1, 0, None),
        (6, 1, 3000, None),
        (30, 1, 0, Severity.NOTICE),
        (30, 30, 3000, None),
        (30, 30, 300, Severity.NOTICE),
        (3000, 200, 100, Severity.WARNING),
    ],
)
def test_clients_that_vanish_are_normal_until_they_are_a_good_share(
    gone: int, clients: int, alive: int, severity: Severity | None
) -> None:
    snapshot = snapshot_of(*served(alive), *unanswered(gone, clients=clients))
    assert found(snapshot, server_closes_first=99999).get("fin-unanswered") == severity


def test_a_slow_reader_is_no_silent_peer() -> None:
    rows = [
        Socket(State.FIN_WAIT1, "10.0.0.1", 443, "10.3.0.1", 50000 + i, 4, 900, 1, send_q=9000)
        for i in range(9)
    ]
    assert found(snapshot_of(*served(9), *rows)) == {"fin-unanswered": Severity.NOTICE}


def test_fins_in_flight_are_no_problem() -> None:
    rows = [
        Socket(State.LAST_ACK, "10.0.0.1", 40000 + i, "10.3.0.1", 80, 1, 200, 0, send_q=1)
        for i in range(200)
    ]
    assert found(snapshot_of(*rows)) == {}


def test_syns_in_flight_are_no_problem() -> None:
    rows = [
        Socket(State.SYN_SENT, "10.0.0.1", 40000 + i, "10.3.0.1", 80, 1, 900) for i in range(90)
    ]
    assert found(snapshot_of(*rows)) == {}


@pytest.mark.parametrize(
    "rows",
    [
        [(700 + i, "10.0.0.2", 2049) for i in range(50)],
        [(801, "10.0.0.2", 2049), (801, "10.0.0.3", 20048), (801, "10.0.0.3", 111)],
        [(20, f"10.1.0.{i}", 40000 + i) for i in range(30)],
        [(30000 + i % 10, f"10.1.0.{i}", 40000 + i) for i in range(90)],
    ],
    ids=["nfs", "mount", "active ftp", "passive ftp"],
)
def test_protocols_with_ports_of_their_own_block_no_restart(
    rows: list[tuple[int, str, int]],
) -> None:
    waits = [Socket(State.TIME_WAIT, "10.0.0.1", own, to, at, 3, 9000) for own, to, at in rows]
    assert found(snapshot_of(*waits)) == {}


def test_a_stopped_service_inside_a_wide_range_is_still_seen() -> None:
    rows = [
        Socket(State.TIME_WAIT, "10.0.0.1", 8080, f"10.1.0.{i}", 40000 + i, 3, 9000)
        for i in range(60)
    ]
    sysctls = SYSCTLS | {"net.ipv4.ip_local_port_range": "1024 65535"}
    assert found(snapshot_of(*rows, sysctls=sysctls)) == {"restart-blocked": Severity.NOTICE}


def test_attempts_to_everywhere_are_one_finding() -> None:
    rows = [
        Socket(State.SYN_SENT, "10.0.0.1", 40000 + i, f"10.4.{i // 200}.{i % 200}", 443, 1, 900, 3)
        for i in range(400)
    ]
    report = rules.analyze(snapshot_of(*rows), Limits())
    assert [(f.rule, f.evidence["destinations"]) for f in report.findings] == [
        ("syn-unanswered", 400)
    ]


def test_many_fixed_ports_are_one_finding_with_one_command() -> None:
    rows = [
        Socket(State.LISTEN, "0.0.0.0", 40000 + i, "0.0.0.0", 0, inode=5 + i, send_q=9, cookie=i)
        for i in range(60)
    ]
    sysctls = SYSCTLS | {"net.ipv4.ip_local_reserved_ports": "50000"}
    report = rules.analyze(snapshot_of(*rows, sysctls=sysctls), Limits())
    assert [f.rule for f in report.findings] == ["listener-in-ephemeral-range"]
    assert report.findings[0].advice[0].how.endswith("=40000-40059,50000")


def test_orphans_near_their_limit_are_host_wide() -> None:
    assert found(snapshot_of(sockstat={"TCP.tw": 0, "TCP.orphan": 60000})) == {
        "fin-unanswered": Severity.CRITICAL
    }


@pytest.mark.parametrize(
    ("name", "value", "waits", "fires"),
    [
        ("net.ipv4.tcp_fin_timeout", "15", 0, False),
        ("net.ipv4.tcp_fin_timeout", "15", 30, True),
        ("net.ipv4.tcp_fin_timeout", "61", 0, True),
        ("net.ipv4.tcp_tw_recycle", "1", 0, True),
        ("net.ipv4.tcp_tw_recycle", "0", 0, False),
        ("net.ipv4.tcp_max_tw_buckets", "1000", 0, True),
        ("net.ipv4.tcp_max_tw_buckets", "65536", 0, False),
        ("net.ipv4.tcp_tw_reuse", "1", 30, False),
    ],
)
def test_a_setting_misleads_only_where_it_does(
    name: str, value: str, waits: int, fires: bool
) -> None:
    snapshot = snapshot_of(*time_wait(waits), sysctls=SYSCTLS | {name: value})
    assert ("misleading-sysctl" in found(snapshot)) is fires


def test_a_small_hash_table_has_a_small_default_and_nobody_lowered_it() -> None:
    sysctls = SYSCTLS | {
        "net.ipv4.tcp_ehash_entries": "4096",
        "net.ipv4.tcp_max_tw_buckets": "2048",
    }
    assert found(snapshot_of(sysctls=sysctls)) == {}


def test_a_port_that_the_kernel_chose_is_nobodys_fixed_port() -> None:
    chosen = Socket(State.LISTEN, "127.0.0.1", 40001, "0.0.0.0", 0, inode=5, send_q=9, cookie=77)
    assert found(snapshot_of(chosen, auto_bound=frozenset({77}))) == {}
    assert found(snapshot_of(chosen)) == {"listener-in-ephemeral-range": Severity.NOTICE}
    reserved = SYSCTLS | {"net.ipv4.ip_local_reserved_ports": "40001"}
    assert found(snapshot_of(chosen, sysctls=reserved)) == {}


def test_unknown_rules_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'close-wait-leak'"):
        rules.choose(["close-wait-leek"])
    assert [rule.name for rule in rules.choose(["fd-limit-near"])] == ["fd-limit-near"]
    assert "fd-limit-near" not in [rule.name for rule in rules.choose((), ["fd-limit-near"])]
