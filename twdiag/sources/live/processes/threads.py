"""Parsers of what /proc says of a thread: status, time on a CPU, where it sleeps, epoll set.

All are pure.  Formats: fs/proc/array.c (status), ep_show_fdinfo() in fs/eventpoll.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model.waits import Act, EpollWatch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class ThreadStatus(NamedTuple):
    """What /proc/PID/task/TID/status says.

    `sleeps` counts how often it left a CPU to wait, `evictions` how often it had to leave one;
    `inner` is its thread number in its own PID namespace, `tracer` its debugger's pid (0 none).
    """

    name: str
    state: str
    tracer: int
    uid: int
    sleeps: int | None
    evictions: int | None
    inner: int | None


def parse_status(data: bytes) -> ThreadStatus | None:
    """Return what a status file says, None where its state is missing (the thread is gone)."""
    lines = b"\n" + data
    state = _field(lines, b"\nState:")[:1].decode("ascii", "replace")
    if not state.isalpha():
        return None
    uid = _number(_field(lines, b"\nUid:"))
    numbers = parse_numbers(data)
    return ThreadStatus(
        unescape(_field(lines, b"\nName:")),
        state,
        _number(_field(lines, b"\nTracerPid:")) or 0,
        -1 if uid is None else uid,
        _number(_field(lines, b"\nvoluntary_ctxt_switches:")),
        _number(_field(lines, b"\nnonvoluntary_ctxt_switches:")),
        numbers[-1] if numbers else None,
    )


def parse_numbers(data: bytes) -> tuple[int, ...]:
    """Return a process's number in each PID namespace that it is in, this one's first."""
    found = map(_number, _field(b"\n" + data, b"\nNSpid:").split())
    return tuple(number for number in found if number is not None)


def _field(lines: bytes, start: bytes) -> bytes:
    """Return what stands behind the first line that starts so; two thousand threads ask for it."""
    at = lines.find(start)
    if at < 0:
        return b""
    at += len(start)
    end = lines.find(b"\n", at)
    return lines[at : end if end >= 0 else None].strip()


_FIRST_NUMBER: Final = re.compile(rb"\d{1,20}")


def _number(value: bytes) -> int | None:
    match = _FIRST_NUMBER.match(value)
    return int(match[0]) if match else None


def parse_cpu_time(data: bytes) -> int | None:
    """Return the nanoseconds on a CPU in a schedstat file, None where it is in another format.

    Documentation/scheduler/sched-stats.rst; a running thread's are brought up to date at each tick.
    """
    return _number(data)


def unescape(name: bytes) -> str:
    """Return a name of a status file, in which newline and backslash stand as \\n and \\\\.

    A byte that is not UTF-8 becomes a surrogate, as everywhere in Python's file names.
    """
    plain = re.sub(rb"\\([n\\])", lambda found: b"\n" if found[1] == b"n" else b"\\", name)
    return plain.decode("utf-8", "surrogateescape")


_WATCH: Final = re.compile(
    rb"^tfd: +(\d{1,10}) events: +([0-9a-f]{1,8}) data: +[0-9a-f]{1,16}"
    rb"(?: +pos:-?\d+ ino:([0-9a-f]{1,16}) )?",
    re.MULTILINE,
)


def parse_epoll(data: bytes, inodes: Collection[int]) -> tuple[int, tuple[EpollWatch, ...]]:
    """Return (number of watches, those of some inodes) of an epoll set's fdinfo.

    Before Linux 4.11 the file shows no inodes: all watches are returned, their inode None.
    """
    size, found = 0, []
    for match in _WATCH.finditer(data):
        size += 1
        inode = int(match[3], 16) if match[3] else None
        if inode is None or inode in inodes:
            found.append(EpollWatch(int(match[1]), inode, int(match[2], 16)))
    return size, tuple(found)


def parse_watched(data: bytes) -> tuple[int, ...]:
    """Return the descriptors that an epoll set watches, from its fdinfo."""
    return tuple(int(match[1]) for match in _WATCH.finditer(data))


def act_of_channel(channel: str) -> Act:
    """Return what a thread does, told by the kernel function it sleeps in (wchan).

    For where the system call may not be read; compilers add ".constprop.0" to some names.
    """
    return _CHANNELS.get(channel.partition(".")[0], Act.OTHER)


def act_of_state(state: str) -> Act | None:
    """Return what a thread's state alone tells, None where its system call has to."""
    return _STATES.get(state)


_STATES: Final[Mapping[str, Act]] = {
    "R": Act.RUN,
    "D": Act.DISK,
    "T": Act.STOPPED,
    "t": Act.TRACED,
    "Z": Act.OTHER,
    "X": Act.OTHER,
}

_VFORK: Final = frozenset({"kernel_clone", "_do_fork", "do_fork", "wait_for_vfork_done"})
"""Where a thread sleeps, in state D, until its child of vfork() has called exec() or has ended."""


def is_vfork(channel: str) -> bool:
    """Say whether a thread in disk sleep waits for its child rather than for a disk."""
    return channel.partition(".")[0] in _VFORK


_CHANNELS: Final[Mapping[str, Act]] = {
    "inet_csk_accept": Act.ACCEPT,
    "wait_woken": Act.READ,  # sk_wait_data(); a full send buffer too
    "sk_wait_data": Act.READ,
    "sk_stream_wait_memory": Act.WRITE,
    "inet_wait_for_connect": Act.CONNECT,
    "unix_stream_read_generic": Act.READ,
    "unix_stream_data_wait": Act.READ,
    "__skb_wait_for_more_packets": Act.READ,
    "pipe_read": Act.READ,
    "anon_pipe_read": Act.READ,
    "do_epoll_wait": Act.POLL,
    "ep_poll": Act.POLL,
    "poll_schedule_timeout": Act.POLL,
    "do_sys_poll": Act.POLL,
    "do_select": Act.POLL,
    "futex_do_wait": Act.FUTEX,
    "futex_wait_queue": Act.FUTEX,
    "futex_wait_queue_me": Act.FUTEX,
    "hrtimer_nanosleep": Act.SLEEP,
    "do_nanosleep": Act.SLEEP,
    "do_wait": Act.CHILD,
    "do_sigtimedwait": Act.SIGNAL,
    "sigsuspend": Act.SIGNAL,
    "io_cqring_wait": Act.RING,
    "ptrace_stop": Act.TRACED,
    "do_signal_stop": Act.STOPPED,
}
