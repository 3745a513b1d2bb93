"""What a thread in a system call does, read from text and bytes: real ones, and anything at all."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.model.waits import Act
from twdiag.sources.live.processes.system_calls import (
    MOST_POLLED,
    SystemCall,
    child_of,
    descriptor_of,
    known_call,
    memory_of,
    parse_fd_set,
    parse_pollfds,
    parse_syscall,
)

STACK = 0x7FFF44940070


def call(number: int, *arguments: int, stack: int = STACK) -> SystemCall:
    return SystemCall(number, (*arguments, *[0] * (6 - len(arguments))), stack)


def test_system_calls() -> None:
    text = b"0 0x9 0x55758eb19940 0x2000 0x0 0x0 0x0 0x7fff44940070 0x7f241d5162ec\n"
    assert parse_syscall(text) == call(0, 9, 0x55758EB19940, 0x2000)
    assert parse_syscall(b"running\n") is None
    assert parse_syscall(b"-1 0x7fff44940070 0x7f241d5162ec\n") is None


@pytest.mark.parametrize("text", [b"", b"0", b"0 0x1 0x2 0x3\n", b"walking\n"])
def test_what_is_no_system_call_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a system call"):
        parse_syscall(text)


@given(
    st.integers(0, 500),
    st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6),
    st.integers(0, 2**64 - 1),
    st.sampled_from(["x86_64", "aarch64", "riscv64"]),
)
def test_any_system_call_goes_there_and_back(
    number: int, arguments: list[int], stack: int, machine: str
) -> None:
    words = " ".join(f"{word:#x}" for word in (*arguments, stack, 0))
    parsed = parse_syscall(f"{number} {words}\n".encode())
    assert parsed == SystemCall(number, tuple(arguments), stack)
    known = known_call(parsed, machine)
    fd = descriptor_of(parsed, known)
    assert fd is None or 0 <= fd < 1 << 30
    assert all(size <= 8 * MOST_POLLED for _, size in memory_of(parsed, known))


@given(st.binary(max_size=200))
def test_any_syscall_file(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_syscall(data)


@pytest.mark.parametrize(
    ("machine", "number", "name", "act"),
    [
        ("x86_64", 45, "recvfrom", Act.READ),
        ("aarch64", 207, "recvfrom", Act.READ),
        ("x86_64", 281, "epoll_pwait", Act.POLL),
        ("aarch64", 22, "epoll_pwait", Act.POLL),
        ("x86_64", 43, "accept", Act.ACCEPT),
        ("aarch64", 202, "accept", Act.ACCEPT),
        ("x86_64", 202, "futex", Act.FUTEX),
        ("aarch64", 98, "futex", Act.FUTEX),
        ("x86_64", 499, "call 499", Act.OTHER),
        ("s390x", 45, "call 45", Act.OTHER),
    ],
)
def test_calls_have_the_numbers_of_their_machine(
    machine: str, number: int, name: str, act: Act
) -> None:
    known = known_call(call(number, 3), machine)
    assert (known.name, known.act) == (name, act)


def test_a_32_bit_program_has_other_numbers() -> None:
    assert known_call(call(45, 3, stack=0xFFF00000), "x86_64").name == "call 45"


@pytest.mark.parametrize(
    ("operation", "value", "act"),
    [
        (0x80, 2, Act.MUTEX),  # pthread_mutex_lock()
        (0x189, 0, Act.FUTEX),  # sem_wait(), a condition variable
        (0x80, 0, Act.FUTEX),  # Go's idle thread
        (0x86, 0, Act.MUTEX),  # FUTEX_LOCK_PI
        (0x8D, 0, Act.MUTEX),  # FUTEX_LOCK_PI2
    ],
)
def test_only_a_contended_lock_is_called_one(operation: int, value: int, act: Act) -> None:
    assert known_call(call(202, 0x1000, operation, value), "x86_64").act is act


def test_to_wait_for_no_descriptor_is_to_sleep() -> None:
    # time.sleep() of Python 3.10 is select() with nothing but a timeout.
    for number, nothing, something in (
        (270, (0, 0, 0, 0), (5, 0x1000, 0, 0)),
        (23, (0, 0, 0, 0), (5, 0x1000, 0, 0)),
        (7, (0, 0, 500, 0), (0x1000, 1, 500, 0)),
        (271, (0, 0, 0x1000, 0), (0x1000, 1, 0, 0)),
    ):
        assert known_call(call(number, *nothing), "x86_64").act is Act.SLEEP
        assert known_call(call(number, *something), "x86_64").act is Act.POLL


def test_poll_and_select_keep_their_descriptors_in_memory() -> None:
    poll = call(7, 0x1000, 3, 0xC350)
    assert memory_of(poll, known_call(poll, "x86_64")) == ((0x1000, 24),)
    select = call(270, 65, 0x2000, 0, 0x3000)
    assert memory_of(select, known_call(select, "x86_64")) == ((0x2000, 16), (0x3000, 16))
    for sleeping in (call(7, 0, 0, 1000), call(270, 0, 0, 0, 0, 0x1000)):
        assert known_call(sleeping, "x86_64").act is Act.SLEEP
    read = call(0, 9, 0x1000, 10)
    assert memory_of(read, known_call(read, "x86_64")) == ()


@given(st.lists(st.integers(-1, 2**31 - 1), max_size=50))
def test_pollfds(fds: list[int]) -> None:
    data = b"".join(struct.pack("=ihh", fd, 1, 0) for fd in fds)
    assert parse_pollfds(data) == tuple(fd for fd in fds if fd >= 0)
    parse_pollfds(data[:-3])


@given(st.sets(st.integers(0, MOST_POLLED - 1)))
def test_fd_sets(fds: set[int]) -> None:
    words = [sum(1 << fd % 64 for fd in fds if fd // 64 == at) for at in range(MOST_POLLED // 64)]
    assert parse_fd_set(struct.pack(f"={len(words)}Q", *words)) == tuple(sorted(fds))


@pytest.mark.parametrize(
    ("number", "arguments", "child"),
    [
        (61, (4711,), 4711),
        (61, (0xFFFFFFFF,), -1),
        (247, (1, 4711), 4711),  # waitid(P_PID, 4711)
        (247, (0, 0), -1),  # waitid(P_ALL)
        (45, (5,), None),
    ],
)
def test_whose_end_a_parent_waits_for(
    number: int, arguments: tuple[int, ...], child: int | None
) -> None:
    waiting = call(number, *arguments)
    assert child_of(waiting, known_call(waiting, "x86_64")) == child
