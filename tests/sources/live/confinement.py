"""Take rights away from this process, as a container, a service manager or a plain user would."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import platform
import socket
import struct
import traceback
from typing import TYPE_CHECKING, TypeVar, cast

import pytest

from tests.loaded import load_all

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
NOBODY = 65534

# Number of the system call socket() and AUDIT_ARCH_*: include/uapi/linux/audit.h.
_SOCKET = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_netlink(errno: int) -> None:
    """Let socket(AF_NETLINK) fail from now on, by a real seccomp filter."""
    number, architecture = _SOCKET[platform.machine()]
    # struct seccomp_data: nr at 0, arch at 4, the low half of args[0] at 16 (little endian).
    program = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (_LOAD, 0, 0, 4),
            (_EQUAL, 0, 5, architecture),
            (_LOAD, 0, 0, 0),
            (_EQUAL, 0, 3, number),
            (_LOAD, 0, 0, 16),
            (_EQUAL, 0, 1, socket.AF_NETLINK),
            (_RETURN, 0, 0, _ERRNO | errno),
            (_RETURN, 0, 0, _ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    fprog = ctypes.create_string_buffer(filters, len(filters))
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0)),
        (_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), fprog),
    ):
        if _libc.prctl(*arguments, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


can_filter = pytest.mark.skipif(
    platform.machine() not in _SOCKET, reason="the seccomp filter is not written for this machine"
)


def in_child(work: Callable[[], T]) -> T:
    """Return what some work returns that is done in a child process, or raise what it raises."""
    load_all()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            try:
                outcome = pickle.dumps((True, work(), ""))
            except BaseException as error:
                outcome = pickle.dumps((False, error, traceback.format_exc()))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(outcome)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            succeeded, value, trace = pickle.loads(pipe.read())
    finally:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    if succeeded:
        return cast("T", value)
    raise AssertionError(f"the child failed:\n{trace}") from cast("BaseException", value)


def become_nobody() -> bool:
    """Give up every right; return False where this namespace knows no other user."""
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        return False
    return True
