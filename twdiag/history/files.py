"""Files that the user names: replaced as a whole or not at all, and never through a link."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Final

from twdiag.errors import UsageError

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW


def replace(path: str, data: bytes, mode: int) -> None:
    """Put data in the place of a file: readers see the old content or the new, never a part.

    The new content is on disk before it gets the name, so that not even a crash loses both.  Raises
    OSError.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    _remove_leftovers(folder, name)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    try:
        try:
            _write_all(file, data)
            os.fchmod(file, mode)
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(folder: str) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # a folder that may be written but not read: the rename is done all the same
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(folder: str, name: str) -> None:
    """Remove the temporary files of runs that were killed."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for found in names:
        pid = found.removeprefix(f".{name}.").removesuffix(".tmp")
        if found == f".{name}.{pid}.tmp" and pid.isdigit() and not _lives(int(pid)):
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, found))


def _lives(pid: int) -> bool:
    return pid != os.getpid() and os.path.exists(f"/proc/{pid}")


def check_replaceable(path: str, what: str) -> None:
    """Raise UsageError where a path is something else than a file of our own, or nothing.

    Renaming over a link or a device would replace it; what somebody else laid out may be a trap.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{what} {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{what} {path} is not a plain file", "name a plain file, not a link")
    if found.st_uid != os.geteuid():
        raise UsageError(
            f"{what} {path} belongs to another user (uid {found.st_uid})",
            "run as that user or name another file",
        )


def read_own(path: str, most: int) -> bytes | None:
    """Return a file of our own, None where there is none; more than `most` bytes are not read.

    Raises UsageError where it is not ours, OSError where it cannot be read.
    """
    check_replaceable(path, "the file")
    try:
        # Not to hang on a pipe that takes the file's place just now.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(f"the file {path} was replaced while it was opened")
        return _read(file, most + 1)
    finally:
        os.close(file)


def _read(file: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most and (part := os.read(file, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
