"""Do something in a private network namespace, with a tracefs of its own where that is allowed."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

from tests.sources.live.confinement import NOBODY, in_child
from twdiag.errors import SourceRefused
from twdiag.lab.network import enter_private

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
TRACEFS: Final = "/sys/kernel/tracing"

_CLONE_NEWNS: Final = 0x20000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


def mount_tracefs() -> None:
    """Mount tracefs where the product looks for it, in a mount namespace of this process."""
    for what, done in (
        ("unshare", _libc.unshare(_CLONE_NEWNS)),
        ("private", _libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None)),
        ("tracefs", _libc.mount(b"tracefs", TRACEFS.encode(), b"tracefs", ctypes.c_ulong(0), None)),
    ):
        if done:
            raise OSError(ctypes.get_errno(), what)


def needs_tracefs() -> None:
    """Skip a test where this machine does not let it trace."""

    def try_it() -> str:
        try:
            mount_tracefs()
            os.listdir(f"{TRACEFS}/instances")
        except OSError as error:
            return str(error)
        return ""

    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    why = in_child(try_it)
    if why:
        pytest.skip(f"tracefs cannot be mounted: {why}")


def in_private(work: Callable[[], T], *, tracefs: bool = False) -> T:
    """Return what some work returns in a namespace of its own; skip where there can be none."""

    def privately() -> T | SourceRefused:
        try:
            enter_private()
        except SourceRefused as error:
            return error
        if tracefs:
            mount_tracefs()
        return work()

    result = in_child(privately)
    if isinstance(result, SourceRefused):
        pytest.skip(f"{result.what}; {result.next_step}")
    return result


def become_nobody() -> None:
    """Give up every right of this process, if it has any."""
    if os.geteuid() == 0:
        try:
            os.setgroups([])
        except OSError:
            return  # a user namespace of our own: we have none outside of it
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
