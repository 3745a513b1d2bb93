"""A local address and port belong to the listener that the kernel would choose."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.census import listeners as listeners_module
from twdiag.census.listeners import (
    LISTENING,
    OTHER,
    PARTLY,
    USABLE,
    PortKinds,
    find_listener,
    listeners_of,
    port_kinds,
)
from twdiag.model.ports import PortBudget
from twdiag.model.sockets import Socket
from twdiag.tcp import State


def listening(address: str, port: int = 80, *, v6only: bool = False) -> Socket:
    return Socket(
        State.LISTEN, address, port, "::" if ":" in address else "0.0.0.0", 0, v6only=v6only
    )


def owner(address: str, *listeners: Socket) -> str | None:
    found = find_listener(listeners_of(listeners), address, 80)
    return found.address if found else None


def test_a_dual_stack_listener_takes_ipv4_and_one_of_ipv6_only_does_not() -> None:
    assert owner("10.0.0.1", listening("::")) == "::"
    assert owner("10.0.0.1", listening("::", v6only=True)) is None
    assert owner("2001:db8::1", listening("::", v6only=True)) == "::"
    assert owner("2001:db8::1", listening("0.0.0.0")) is None


def test_one_copy_without_v6only_makes_a_shared_listener_dual_stack() -> None:
    assert owner("10.0.0.1", listening("::"), listening("::", v6only=True)) == "::"


@pytest.mark.parametrize("turn", [1, -1])
def test_the_most_specific_listener_takes_the_connection(turn: int) -> None:
    listeners = [listening("::"), listening("0.0.0.0"), listening("10.0.0.1")][::turn]
    assert owner("10.0.0.1", *listeners) == "10.0.0.1"
    assert owner("10.0.0.9", *listeners) == "0.0.0.0"
    assert owner("::1", *listeners) == "::"
    assert owner("10.0.0.9", listening("10.0.0.1")) is None


def test_a_listener_on_a_link_local_address_takes_that_of_its_interface_only() -> None:
    assert owner("fe80::1%2", listening("fe80::1%2")) == "fe80::1%2"
    assert owner("fe80::1%3", listening("fe80::1%2")) is None


def test_copies_of_a_listener_are_one() -> None:
    (listener,) = listeners_of([listening("0.0.0.0")] * 3).values()
    assert len(listener.sockets) == 3


def test_each_port_is_of_one_kind() -> None:
    sysctls = {
        "net.ipv4.ip_local_port_range": "40000 40004",
        "net.ipv4.ip_local_reserved_ports": "40001",
    }
    any_ipv6 = [listening("10.0.0.1", 80), listening("::", 80)]
    listeners = listeners_of([listening("10.0.0.1", 40002), *any_ipv6])
    budget = PortBudget.of(sysctls, {80, 40002, 40003})
    kinds = port_kinds(budget, listeners.values(), ipv6=False)
    assert len(kinds) == 65_536
    assert {p for p in range(65_536) if kinds[p] == USABLE} == {40000, 40004}
    assert {p for p in range(65_536) if kinds[p] == LISTENING} == {80}
    assert {p for p in range(65_536) if kinds[p] == PARTLY} == {40002}
    assert kinds.count(OTHER) == 65_532


@given(
    st.sets(st.integers(0, 65_535), max_size=400),
    st.lists(st.integers(0, 65_535), min_size=1, max_size=60),
    st.sampled_from([0, 1, 4]),
)
def test_a_column_of_ports_is_looked_up_as_each_of_them_is(
    taken: set[int], ports: list[int], few: int
) -> None:
    listeners = listeners_of([listening("0.0.0.0", port) for port in taken]).values()
    kinds = port_kinds(PortBudget.of({}, taken), listeners, ipv6=False)
    column = array("H", [*ports, *sorted(taken)[:9]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listeners_module, "_FEW_BLOCKS", few)
        patch.setattr(listeners_module, "_FEW_ROWS", 2)
        assert PortKinds(kinds).kinds_of(column) == bytes(kinds[port] for port in column)
        assert PortKinds(kinds).kinds_of(column[:1]) == bytes([kinds[column[0]]])


def test_a_listener_of_ipv4_alone_is_none_to_ipv6() -> None:
    listeners = listeners_of([listening("0.0.0.0", 80), listening("10.0.0.1", 81)]).values()
    kinds = port_kinds(PortBudget.of({}, {80, 81}), listeners, ipv6=True)
    assert {kinds[80], kinds[81]} == {OTHER}


def test_a_listener_of_ipv6_alone_is_none_to_ipv4() -> None:
    listeners = listeners_of([listening("::", 80, v6only=True), listening("::1", 81)]).values()
    kinds = port_kinds(PortBudget.of({}, {80, 81}), listeners, ipv6=False)
    assert {kinds[80], kinds[81]} == {OTHER}
