"""The few system calls of namespaces and processes that Python 3.10 has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Final

CLONE_NEWUSER: Final = 0x10000000  # include/uapi/linux/sched.h
CLONE_NEWNET: Final = 0x40000000

_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process into new namespaces."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def setns(fd: int) -> None:
    """Move this process into the network namespace that a descriptor stands for."""
    _checked("setns", _libc.setns(ctypes.c_int(fd), ctypes.c_int(CLONE_NEWNET)))


def set_name(name: str) -> None:
    """Set the name of this process; the kernel keeps its first 15 bytes, whatever they are."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(os.fsencode(name)))


def die_with_parent(parent: int, signal: int) -> None:
    """Ask for a signal when the parent's thread ends; end at once where it is gone already."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal))
    if os.getppid() != parent:
        os._exit(1)


def own_proc_files() -> None:
    """Make this process the owner of its /proc files again.

    The kernel hands them to root when a process changes its uid, and uid_map is one of them.
    """
    _prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1))


def _prctl(option: int, value: ctypes.c_ulong | ctypes.c_char_p) -> None:
    zero = ctypes.c_ulong(0)
    _checked("prctl", _libc.prctl(ctypes.c_int(option), value, zero, zero, zero))


def _checked(call: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
