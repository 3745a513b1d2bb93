"""The use of a SNAT's ports: what is over can be had again, on kernels that evict it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.snat_use import evicts, snat_uses
from twdiag.model.conntrack import STATES, Conntrack, ConntrackCounters, Snat

SNAT = Snat("192.0.2.1", "10.0.0.5", 443, 40000, 40009, True)


def test_nothing_seen_is_no_use() -> None:
    assert snat_uses(None) == []
    assert snat_uses(Conntrack()) == []
    assert snat_uses(Conntrack(snats={})) == []


def test_closed_connections_use_ports_and_do_not_hold_them() -> None:
    states = {"ESTABLISHED": 3, "CLOSE_WAIT": 1, "TIME_WAIT": 4, "CLOSE": 1}
    (use,) = snat_uses(Conntrack(snats={SNAT: states}))
    assert (use.used, use.over, use.live) == (9, 5, 4)
    assert (use.used_ratio, use.live_ratio) == (0.9, 0.4)


@given(
    st.dictionaries(
        st.integers(1, 65535).map(lambda port: SNAT._replace(port=port)),
        st.dictionaries(st.sampled_from(STATES), st.integers(1, 10)),
    )
)
def test_the_one_that_holds_most_comes_first(snats: dict[Snat, dict[str, int]]) -> None:
    uses = snat_uses(Conntrack(snats=snats))
    assert {use.snat for use in uses} == set(snats)
    assert [use.live_ratio for use in uses] == sorted((u.live_ratio for u in uses), reverse=True)
    assert all(0 <= use.over <= use.used == sum(use.states.values()) for use in uses)


@given(
    st.dictionaries(st.sampled_from(STATES), st.integers(0, 70_000), min_size=1),
    st.integers(0, 10**6),
    st.integers(0, 10**7),
    st.sampled_from([SNAT, SNAT._replace(low=1024, high=65535)]),
)
def test_an_estimate_lies_between_what_was_read_and_the_ports(
    states: dict[str, int], others: int, entries: int, snat: Snat
) -> None:
    counters = ConntrackCounters(entries, 0, 0, 0)
    read = sum(states.values())
    (use,) = snat_uses(Conntrack(counters, None, {snat: states}, states, others, complete=False))
    assert 0 <= use.over <= use.used
    if use.estimated:
        assert min(read, snat.ports) <= use.used <= snat.ports
    else:
        assert use.used == read


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.18.44-fc", True),
        ("6.5.0", True),
        ("10.0", True),
        ("6.4.16", False),
        ("5.14.0-503.el9.x86_64", False),
        ("6", False),
        ("", False),
    ],
)
def test_linux_evicts_since_6_5(release: str, expected: bool) -> None:
    assert evicts(release) is expected


@given(st.text())
def test_no_release_is_a_crash(release: str) -> None:
    evicts(release)
