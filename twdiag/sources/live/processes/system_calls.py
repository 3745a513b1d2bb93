"""Tell what a thread in a system call does, and which descriptors it waits for.

All is pure.  Formats: proc_pid_syscall() in fs/proc/base.c.  Numbers:
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.waits import Act

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_POLLED: Final = 1024
"""How many descriptors of one poll() or select() are looked at."""


class SystemCall(NamedTuple):
    """The number and the six arguments of the system call a thread is in, and its stack pointer."""

    number: int
    arguments: tuple[int, ...]
    stack: int


class Known(NamedTuple):
    """What a system call is called, what a thread in it does, and whether it begins with an fd."""

    name: str
    act: Act
    has_fd: bool


_CALL: Final = re.compile(
    rb"(-?\d{1,10})((?: 0x[0-9a-f]{1,16}){6})? 0x([0-9a-f]{1,16}) 0x[0-9a-f]{1,16}\s*"
)


def parse_syscall(data: bytes) -> SystemCall | None:
    """Return the system call of a syscall file, None where the thread runs ("running", or -1).

    Raises ValueError where it is none of these.
    """
    if data.strip() == b"running":
        return None
    match = _CALL.fullmatch(data)
    if match is None:
        raise ValueError(f"not a system call: {data[:80]!r}")
    if match[2] is None or match[1].startswith(b"-"):
        return None  # it sleeps, but in a page fault or on its way out, say
    arguments = tuple(int(word, 16) for word in match[2].split())
    return SystemCall(int(match[1]), arguments, int(match[3], 16))


def known_call(call: SystemCall, machine: str) -> Known:
    """Return what a system call is on a machine ("x86_64", "aarch64"); "call 451" if not known.

    A 32-bit program numbers its calls otherwise; its stack lies below 4 GB.
    """
    table = _TABLES.get(machine)
    if table is None or call.stack < 1 << 32:
        return Known(f"call {call.number}", Act.OTHER, False)
    known = table.get(call.number)
    if known is None:
        return Known(f"call {call.number}", Act.OTHER, False)
    if known.act is Act.FUTEX and known.name == "futex":
        return known._replace(act=_futex(call.arguments))
    if known.act is Act.POLL and not known.has_fd and not memory_of(call, known):
        return known._replace(act=Act.SLEEP)  # sleep() of Perl, and of Python before 3.11
    return known


def _futex(arguments: tuple[int, ...]) -> Act:
    """Say whether a futex wait can only be a lock.

    glibc's pthread_mutex_lock() waits with FUTEX_WAIT for the value 2, "locked, with waiters", and
    FUTEX_LOCK_PI is a lock by its name.  Condition variables and semaphores use FUTEX_WAIT_BITSET.
    """
    operation = arguments[1] & 0x7F  # without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME
    is_lock = (operation == 0 and arguments[2] == 2) or operation in (6, 13)
    return Act.MUTEX if is_lock else Act.FUTEX


def descriptor_of(call: SystemCall, known: Known) -> int | None:
    """Return the descriptor that a system call works on, None where it has none."""
    number = call.arguments[0] & 0xFFFFFFFF
    return number if known.has_fd and number < 1 << 30 else None


def memory_of(call: SystemCall, known: Known) -> tuple[tuple[int, int], ...]:
    """Return (address, bytes) of the descriptors that a poll() or select() waits for."""
    if known.name in ("poll", "ppoll"):
        count = min(call.arguments[1], MOST_POLLED)
        return ((call.arguments[0], 8 * count),) if count else ()
    if known.name in ("select", "pselect6"):
        # Three bit sets, any of them NULL, in words of 64 bits.
        size = 8 * ((min(call.arguments[0] & 0xFFFFFFFF, MOST_POLLED) + 63) // 64)
        return tuple((address, size) for address in call.arguments[1:4] if address and size)
    return ()


def parse_pollfds(data: bytes) -> tuple[int, ...]:
    """Return the descriptors of an array of struct pollfd; negative ones are left out by poll()."""
    whole = len(data) // 8 * 8
    return tuple(fd for fd, _, _ in struct.iter_unpack("=ihh", data[:whole]) if fd >= 0)


def parse_fd_set(data: bytes) -> tuple[int, ...]:
    """Return the descriptors of an fd_set: 64-bit words in the byte order of this machine."""
    whole = len(data) // 8 * 8
    return tuple(
        64 * place + bit
        for place, (word,) in enumerate(struct.iter_unpack("=Q", data[:whole]))
        for bit in range(64)
        if word >> bit & 1
    )


def child_of(call: SystemCall, known: Known) -> int | None:
    """Return the process whose end a wait4() or waitid() waits for: -1 any, None in other calls."""
    if known.name == "wait4":
        return _signed(call.arguments[0])
    if known.name == "waitid":
        return _signed(call.arguments[1]) if call.arguments[0] == _P_PID else -1
    return None


_P_PID: Final = 1  # include/uapi/linux/wait.h


def _signed(word: int) -> int:
    """Return an argument of type int."""
    low = word & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


_CALLS: Final[tuple[tuple[str, Act, bool, int | None, int | None], ...]] = (
    # name, what it is, begins with a descriptor, number on x86_64, number on aarch64
    ("read", Act.READ, True, 0, 63),
    ("write", Act.WRITE, True, 1, 64),
    ("close", Act.OTHER, True, 3, 57),
    ("poll", Act.POLL, False, 7, None),
    ("ioctl", Act.OTHER, True, 16, 29),
    ("pread64", Act.READ, True, 17, 67),
    ("pwrite64", Act.WRITE, True, 18, 68),
    ("readv", Act.READ, True, 19, 65),
    ("writev", Act.WRITE, True, 20, 66),
    ("select", Act.POLL, False, 23, None),
    ("pause", Act.SIGNAL, False, 34, None),
    ("nanosleep", Act.SLEEP, False, 35, 101),
    ("sendfile", Act.WRITE, True, 40, 71),
    ("connect", Act.CONNECT, True, 42, 203),
    ("accept", Act.ACCEPT, True, 43, 202),
    ("sendto", Act.WRITE, True, 44, 206),
    ("recvfrom", Act.READ, True, 45, 207),
    ("sendmsg", Act.WRITE, True, 46, 211),
    ("recvmsg", Act.READ, True, 47, 212),
    ("shutdown", Act.OTHER, True, 48, 210),
    ("wait4", Act.CHILD, False, 61, 260),
    ("semop", Act.OTHER, False, 65, 193),
    ("msgrcv", Act.OTHER, False, 70, 188),
    ("fcntl", Act.OTHER, True, 72, 25),
    ("flock", Act.MUTEX, True, 73, 32),
    ("fsync", Act.OTHER, True, 74, 82),
    ("fdatasync", Act.OTHER, True, 75, 83),
    ("rt_sigtimedwait", Act.SIGNAL, False, 128, 137),
    ("rt_sigsuspend", Act.SIGNAL, False, 130, 133),
    ("futex", Act.FUTEX, False, 202, 98),
    ("io_getevents", Act.OTHER, False, 208, 4),
    ("restart_syscall", Act.OTHER, False, 219, 128),
    ("semtimedop", Act.OTHER, False, 220, 192),
    ("clock_nanosleep", Act.SLEEP, False, 230, 115),
    ("epoll_wait", Act.POLL, True, 232, None),
    ("mq_timedreceive", Act.READ, False, 243, 183),
    ("waitid", Act.CHILD, False, 247, 95),
    ("openat", Act.OTHER, False, 257, 56),
    ("pselect6", Act.POLL, False, 270, 72),
    ("ppoll", Act.POLL, False, 271, 73),
    ("splice", Act.READ, True, 275, 76),
    ("epoll_pwait", Act.POLL, True, 281, 22),
    ("accept4", Act.ACCEPT, True, 288, 242),
    ("recvmmsg", Act.READ, True, 299, 243),
    ("sendmmsg", Act.WRITE, True, 307, 269),
    ("io_uring_enter", Act.RING, True, 426, 426),
    ("epoll_pwait2", Act.POLL, True, 441, 441),
    ("futex_waitv", Act.FUTEX, False, 449, 449),
    ("futex_wait", Act.FUTEX, False, 455, 455),
)


def _table(column: int) -> dict[int, Known]:
    rows = [(row[column], Known(row[0], row[1], row[2])) for row in _CALLS]
    return {number: known for number, known in rows if isinstance(number, int)}


_TABLES: Final[Mapping[str, Mapping[int, Known]]] = {"x86_64": _table(3), "aarch64": _table(4)}
