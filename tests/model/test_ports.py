"""The port budget against a port-by-port count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.model.ports import (
    DEFAULT_RANGE,
    PortBudget,
    parse_ports,
    parse_range,
)

RANGE, RESERVED = "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"
PORT = st.integers(1, 0xFFFF)


@given(
    st.tuples(PORT, PORT).map(sorted),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 300)), max_size=4),
    st.sets(PORT, max_size=5),
)
def test_the_budget_is_what_a_naive_count_of_ports_gives(
    bounds: list[int], spans: list[tuple[int, int]], bound: set[int]
) -> None:
    low, high = bounds
    spans = [(first, min(first + more, 0xFFFF)) for first, more in spans]
    text = ",".join(f"{a}-{b}" if a != b else str(a) for a, b in spans)
    budget = PortBudget.of({RANGE: f"{low}\t{high}", RESERVED: text}, bound)
    reserved = {port for a, b in spans for port in range(a, b + 1)}
    usable = [port for port in range(low, high + 1) if port not in reserved | bound]
    assert budget.ports == len(usable)
    assert [port for port, flag in enumerate(budget.usable_mask) if flag] == usable
    assert len(budget.usable_mask) == 1 << 16
    assert budget.size == high - low + 1
    assert low in budget
    assert high in budget
    assert low - 1 not in budget
    assert high + 1 not in budget
    assert not budget.reserved & budget.blocked


@pytest.mark.parametrize("sysctls", [{}, {RANGE: ""}, {RANGE: "garbage"}, {RANGE: "9 8"}])
def test_a_range_that_was_not_seen_is_linux_s_default(sysctls: dict[str, str]) -> None:
    budget = PortBudget.of(sysctls, ())
    assert (budget.low, budget.high) == DEFAULT_RANGE
    assert budget.ports == 28_232


def test_a_port_that_is_reserved_and_bound_is_taken_away_once() -> None:
    budget = PortBudget.of({RANGE: "40000 40099", RESERVED: "40000-40009"}, {40009, 40010, 80})
    assert budget.ports == 89
    assert budget.blocked == {40010}


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("32768\t60999", (32768, 60999)),
        (" 1 65535 \n", (1, 65535)),
        ("5 5", (5, 5)),
        ("0 100", None),
        ("100 65536", None),
        ("60999 32768", None),
        ("32768", None),
        ("1 2 3", None),
        ("-1 5", None),
        ("1e3 2000", None),
        ("² 9", None),
        ("1 " + "9" * 5000, None),
        ("", None),
    ],
)
def test_ranges(text: str, bounds: tuple[int, int] | None) -> None:
    assert parse_range(text) == bounds


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", []),
        ("8080", [(8080, 8080)]),
        ("8080,9000-9010", [(8080, 8080), (9000, 9010)]),
        (" 1-2, 3 ", [(1, 2), (3, 3)]),
        ("x,1,-5,2-x,³,65536," + "9" * 5000, [(1, 1)]),
    ],
)
def test_reserved_ports(text: str, ports: list[tuple[int, int]]) -> None:
    assert parse_ports(text) == ports


@given(st.text(max_size=30) | st.text(alphabet="0123456789-, \t²", max_size=30))
def test_no_text_breaks_the_parsers(text: str) -> None:
    bounds = parse_range(text)
    assert bounds is None or 0 < bounds[0] <= bounds[1] <= 0xFFFF
    assert all(0 <= a <= 0xFFFF and 0 <= b <= 0xFFFF for a, b in parse_ports(text))
