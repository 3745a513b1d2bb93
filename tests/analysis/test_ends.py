"""Both ends of a connection are joined where it can be no other connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.ends import End, Joined, join
from twdiag.model.sockets import Socket
from twdiag.tcp import State

CLIENT = ("10.0.0.1", 40000, "10.0.0.2", 8080)
SERVER = ("10.0.0.2", 8080, "10.0.0.1", 40000)
LOCAL = ("127.0.0.1", 40000, "127.0.0.1", 8080)
LOCAL_SERVER = ("127.0.0.1", 8080, "127.0.0.1", 40000)


def end(namespace: int, at: tuple[str, int, str, int], state: State = State.ESTABLISHED) -> End:
    return End(namespace, Socket(state, *at))


def test_the_ends_of_two_namespaces_are_joined_once() -> None:
    client, server = end(1, CLIENT, State.FIN_WAIT2), end(2, SERVER, State.CLOSE_WAIT)
    assert join([server, client]) == [Joined(client, server)]


def test_loopback_is_never_joined_across_namespaces() -> None:
    assert join([end(1, LOCAL), end(2, LOCAL_SERVER)]) == []
    client, server = end(1, LOCAL), end(1, LOCAL_SERVER)
    assert join([client, server]) == [Joined(server, client)]


def test_two_namespaces_with_the_same_loopback_connection_have_one_each() -> None:
    ends = [end(n, at) for n in (1, 2) for at in (LOCAL, LOCAL_SERVER)]
    assert [{j.one.namespace, j.other.namespace} for j in join(ends)] == [{1}, {2}]


@pytest.mark.parametrize("address", ["::1", "fe80::1%2", "169.254.0.1", "127.8.8.8"])
def test_other_addresses_of_one_namespace_are_not_joined_across(address: str) -> None:
    one, other = (address, 40000, address, 8080), (address, 8080, address, 40000)
    assert join([end(1, one), end(2, other)]) == []


def test_more_than_one_candidate_is_none() -> None:
    client = end(1, CLIENT)
    assert join([client, end(2, SERVER), end(3, SERVER)]) == []
    assert join([client, end(4, CLIENT), end(2, SERVER)]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (State.TIME_WAIT, State.CLOSE_WAIT),
        (State.ESTABLISHED, State.CLOSE_WAIT),
        (State.CLOSE_WAIT, State.CLOSE_WAIT),
        (State.LAST_ACK, State.FIN_WAIT2),
    ],
)
def test_states_that_are_not_of_one_connection_are_not_joined(one: State, other: State) -> None:
    assert join([end(1, CLIENT, one), end(2, SERVER, other)]) == []


def test_a_connection_to_itself_has_no_other_end() -> None:
    at = ("10.0.0.1", 44399, "10.0.0.1", 44399)
    assert join([end(1, at)]) == []


ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", "::1"])
ENDS = st.builds(
    lambda namespace, state, *at: end(namespace, at, state),
    st.integers(1, 3),
    st.sampled_from(list(State)),
    ADDRESSES,
    st.integers(1, 3),
    ADDRESSES,
    st.integers(1, 3),
)


@given(st.lists(ENDS, max_size=30))
def test_no_end_is_joined_twice(ends: list[End]) -> None:
    joined = join(ends)
    used = [id(e) for pair in joined for e in pair]
    assert len(used) == len(set(used))
    assert {frozenset(map(id, pair)) for pair in joined} == {
        frozenset(map(id, pair)) for pair in join(list(reversed(ends)))
    }
