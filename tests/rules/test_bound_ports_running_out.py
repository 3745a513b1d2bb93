"""Ports that bind(0) takes from all destinations at once."""

from __future__ import annotations

import pytest

from tests.made import HERE, SYSCTLS, established, found, only_finding, snapshot_of
from twdiag.model.findings import AddressSubject, Severity
from twdiag.model.sockets import Socket
from twdiag.tcp import State

RULE = "bound-ports-running-out"
HUNDRED = SYSCTLS | {"net.ipv4.ip_local_port_range": "40000 40099"}


def bound(number: int) -> list[Socket]:
    """Return connections of sockets bound to (address, 0) first, spread over four destinations."""
    odd_first = [*range(40001, 40100, 2), *range(40000, 40100, 2)][:number]
    return [
        Socket(State.ESTABLISHED, HERE, port, f"10.2.0.{i % 4}", 8080, inode=9)
        for i, port in enumerate(odd_first)
    ]


def unconnected(*ports: int) -> list[Socket]:
    """Return sockets that are bound and neither listen nor are connected."""
    return [Socket(State.CLOSE, HERE, port, "0.0.0.0", 0, bound=True) for port in ports]


@pytest.mark.parametrize(
    ("number", "severity"),
    [(60, None), (75, Severity.NOTICE), (85, Severity.WARNING), (100, Severity.CRITICAL)],
)
def test_bound_ports_alarm_up_to_the_last_port(number: int, severity: Severity | None) -> None:
    assert found(snapshot_of(*bound(number), sysctls=HUNDRED)).get(RULE) == severity


def test_the_address_and_the_parity_are_told() -> None:
    finding = only_finding(snapshot_of(*bound(75), sysctls=HUNDRED))
    assert finding.subject == AddressSubject(HERE)
    assert (finding.evidence["used"], finding.evidence["ports"]) == (75, 100)
    assert finding.evidence["bind_parity_ports"] == 50
    assert finding.place is None  # no socket of it need be in SYN_SENT, or in any one state
    assert "75 of 100 local ports (75 %) on 10.0.0.1" in finding.summary


def test_connect_alone_shares_ports_between_destinations() -> None:
    rows = [s for i in range(4) for s in established(50, port=40000, to=f"10.2.0.{i}")]
    assert RULE not in found(snapshot_of(*rows, sysctls=HUNDRED))


def test_one_destination_that_uses_most_ports_is_another_problem() -> None:
    rows = established(75, port=40000, step=1)
    assert RULE not in found(snapshot_of(*rows, sysctls=HUNDRED))


def test_sockets_bound_and_not_yet_connected_count_too() -> None:
    rows = [*bound(60), *unconnected(*range(40070, 40090))]
    evidence = only_finding(snapshot_of(*rows, sysctls=HUNDRED), RULE).evidence
    # Ports 40070..40089 have 10 odd ones, which are connected, and 10 even ones.
    assert evidence["used"] == 70
    assert RULE not in found(snapshot_of(*unconnected(*range(50000, 50090)), sysctls=HUNDRED))


def test_a_reserved_port_is_nobodys_and_not_in_use() -> None:
    reserved = HUNDRED | {"net.ipv4.ip_local_reserved_ports": "40050-40099"}
    rows = unconnected(*range(40010, 40045), *range(40050, 40099))
    evidence = only_finding(snapshot_of(*rows, sysctls=reserved), RULE).evidence
    assert (evidence["used"], evidence["ports"]) == (35, 50)


def test_a_range_that_is_reserved_whole_has_no_port_to_run_out() -> None:
    reserved = HUNDRED | {"net.ipv4.ip_local_reserved_ports": "40000-40099"}
    assert RULE not in found(snapshot_of(*bound(90), sysctls=reserved))
