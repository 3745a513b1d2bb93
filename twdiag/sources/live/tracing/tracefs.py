"""Tracefs: find it, read and write its files, remove what killed twdiags left, say who refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceRefused
from twdiag.sources.live.proc import start_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTS: Final = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
"""Where tracefs is mounted; it is looked for nowhere else and never mounted."""

_INSTANCE: Final = re.compile(r"twdiag-(\d+)-(\d+)")
_LARGEST_PAGE: Final = 1 << 17


def find() -> str:
    """Return the folder of tracefs.  Raises SourceRefused, and says why there is none."""
    if sys.byteorder != "little":
        raise SourceRefused("the trace buffer is read on little-endian machines only")
    for root in ROOTS:
        try:
            os.listdir(f"{root}/instances")
            return root
        except PermissionError as error:
            raise _refusal(error) from error
        except OSError:
            continue
    if not os.path.isdir(ROOTS[0]):
        raise SourceRefused("this kernel has no tracing (tracefs)")
    raise SourceRefused(
        "tracefs is not mounted", "as root: mount -t tracefs tracefs /sys/kernel/tracing"
    )


def sweep(root: str) -> None:
    """Remove the instances of twdiags that were killed; one whose owner lives is left alone.

    Where the owner's number means nothing here (another PID namespace), the kernel refuses to
    remove an instance that is in use.
    """
    try:
        names = os.listdir(f"{root}/instances")
    except OSError:
        return
    for name in names:
        stale = _INSTANCE.fullmatch(name)
        if stale and start_of(int(stale[1])) != int(stale[2]):
            with contextlib.suppress(OSError):
                os.rmdir(f"{root}/instances/{name}")


def page_size(folder: str) -> int:
    """Return the size of one page of the buffer in bytes: a memory page, unless it says other."""
    try:
        size = int(read(f"{folder}/buffer_subbuf_size_kb")) * 1024
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE")  # before Linux 6.8
    return min(max(size, os.sysconf("SC_PAGE_SIZE")), _LARGEST_PAGE)


def parse_lost(stats: str) -> int:
    """Return how many events a per_cpu/cpuN/stats file says were overwritten or dropped."""
    lost = 0
    for line in stats.splitlines():
        name, _, number = line.partition(":")
        if name.strip() in ("overrun", "commit overrun", "dropped events"):
            with contextlib.suppress(ValueError):
                lost += int(number)
    return lost


def remove_folder(folder: str) -> None:
    # The last reader's reference goes a moment after its close().
    for _ in range(50):
        try:
            os.rmdir(folder)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.01)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refusal(error) from error


def _refusal(error: OSError) -> SourceRefused:
    if _locked_down():
        return SourceRefused("the kernel is locked down, which forbids tracing")
    if error.errno in (errno.EACCES, errno.EPERM):
        if os.geteuid() != 0:
            return SourceRefused("tracing needs root", "run it with sudo")
        return SourceRefused("this root may not trace (a container?)", "run it on the host")
    return SourceRefused(f"a private tracing instance is refused: {error.strerror}")


def _locked_down() -> bool:
    try:
        return "[confidentiality]" in read("/sys/kernel/security/lockdown")
    except OSError:
        return False


def read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def write(path: str, text: str) -> None:
    # Through os, so that what the kernel says to the value is not lost in a buffer.
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
