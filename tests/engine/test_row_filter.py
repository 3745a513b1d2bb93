"""What --state and --peer mean: every spelling that makes sense, and a sentence for all others."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.engine.row_filter import STATES, Filter, Peer, parse_peer, parse_states
from twdiag.errors import UsageError
from twdiag.model.sockets import Socket
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

PORTS = st.integers(1, 65535)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: not getattr(address, "ipv4_mapped", None)
)
T = TypeVar("T")
A = TypeVar("A")


def outcome_of(parse: Callable[[A], T], argument: A) -> T | UsageError:
    """Return what a parser returns, or its refusal."""
    try:
        return parse(argument)
    except UsageError as refusal:
        return refusal


WAITING = Socket(State.CLOSE_WAIT, "10.0.0.1", 8080, "10.0.0.9", 50000)


@given(ADDRESSES, st.integers(0, 32), PORTS | st.none())
def test_whatever_can_be_meant_is_understood(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int, port: int | None
) -> None:
    network = ipaddress.ip_network((address, bits), strict=False)
    for word, meant in ((str(address), ipaddress.ip_network(address)), (str(network), network)):
        bare = f"[{word}]" if address.version == 6 and port is not None else word
        text = bare if port is None else f"{bare}:{port}"
        peer = parse_peer(text)
        assert peer == Peer(meant, port)
        assert peer.takes(str(address), port or 1)
        assert port is None or not peer.takes(str(address), port - 1)


@given(PORTS)
def test_a_port_alone_is_that_of_any_address(port: int) -> None:
    peer = parse_peer(f":{port}")
    assert peer == Peer(None, port)
    assert peer.takes("2001:db8::1", port)


@given(ADDRESSES, ADDRESSES, st.integers(0, 32))
def test_a_network_takes_what_is_in_it(
    one: ipaddress.IPv4Address, other: ipaddress.IPv4Address, bits: int
) -> None:
    network = ipaddress.ip_network((one, bits), strict=False)
    assert parse_peer(str(network)).takes(str(other), 1) is (other in network)


@given(st.text(max_size=30) | st.text("0123456789abcdef.:/[]%", max_size=30))
def test_any_other_text_is_a_sentence(text: str) -> None:
    outcome = outcome_of(parse_peer, text)
    if isinstance(outcome, UsageError):
        assert outcome.what.startswith("--peer ")
        assert outcome.next_step
    else:
        assert outcome.network is not None or outcome.port is not None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("::ffff:10.0.0.5", Peer(ipaddress.ip_network("10.0.0.5"), None)),
        ("[::ffff:10.0.0.5]:443", Peer(ipaddress.ip_network("10.0.0.5"), 443)),
        ("[2001:db8::/32]:443", Peer(ipaddress.ip_network("2001:db8::/32"), 443)),
        ("[::1]", Peer(ipaddress.ip_network("::1"), None)),
        ("fe80::1%2", Peer(ipaddress.ip_network("fe80::1"), None)),
        ("10.0.0.5/8:53", Peer(ipaddress.ip_network("10.0.0.0/8"), 53)),
    ],
)
def test_other_spellings(text: str, meant: Peer) -> None:
    assert parse_peer(text) == meant


NONSENSE = (
    *("", ":", "10.0.0.5:", ":0", ":65536", "[::1", "[::1]443", "[]:1"),
    *("host", "10.0.0", "10.0.0.5/33", "10.0.0.5:http"),
)


@pytest.mark.parametrize("text", NONSENSE)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no address, network or port"):
        parse_peer(text)


@given(st.sampled_from(list(State)), st.sampled_from(["name", "rfc", "ss"]), st.booleans())
def test_a_state_has_the_names_of_all_tools(state: State, kind: str, lower: bool) -> None:
    word = getattr(state, kind)
    if state is State.CLOSE:
        with pytest.raises(UsageError):
            parse_states([word])
    else:
        assert parse_states([word.lower() if lower else word]) == {state}


@given(st.lists(st.text(max_size=20), min_size=1))
def test_a_word_that_is_no_state_is_a_sentence_with_all_that_are(words: list[str]) -> None:
    outcome = outcome_of(parse_states, words)
    if isinstance(outcome, UsageError):
        assert all(name in outcome.next_step for name in STATES)
    else:
        assert outcome


def test_a_misspelt_state_is_recognised() -> None:
    with pytest.raises(UsageError, match="did you mean 'CLOSE_WAIT'"):
        parse_states(["close-wiat"])
    assert parse_states(["bound", "close-wait"]) == {"BOUND", State.CLOSE_WAIT}


def test_options_of_one_name_add_and_of_different_names_narrow() -> None:
    states = frozenset({State.CLOSE_WAIT, State.TIME_WAIT})
    assert Filter(states, frozenset({8080, 1}), (parse_peer("10.0.0.9"),)).takes(WAITING)
    assert Filter(states, frozenset({50000})).takes(WAITING)  # either end's port
    assert not Filter(states, frozenset({1})).takes(WAITING)
    assert not Filter(states, peers=(parse_peer(":8080"),)).takes(WAITING)  # the remote end's alone
    assert not Filter(frozenset({State.TIME_WAIT})).takes(WAITING)


def test_a_listener_has_no_peer() -> None:
    listener = Socket(State.LISTEN, "0.0.0.0", 80, "0.0.0.0", 0)
    assert Filter().takes(listener)
    assert not Filter(peers=(parse_peer("0.0.0.0/0"),)).takes(listener)


@given(st.sets(st.sampled_from(STATES)))
def test_the_kernel_is_asked_for_the_states_and_no_others(names: set[str]) -> None:
    bits = Filter(parse_states(names)).bits
    asked = {n for n in range(1, 14) if bits >> n & 1}
    meant = {13 if name == "BOUND" else int(State[name]) for name in names}
    if not names:
        assert asked == set(range(1, 14))
    else:
        assert asked - {12} == meant
        assert (12 in asked) is ("SYN_RECV" in names)
