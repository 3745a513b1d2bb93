"""Files that the user names: replaced as a whole or not at all, and never through a trap.

Every path is walked from folder to folder, so that what stands in a folder which others may write
to leads nowhere: a link is followed only if this user or root made it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | _FLAGS
_MOST_LINKS: Final = 40
"""As many as the kernel follows: MAXSYMLINKS, include/linux/namei.h."""
_ATTEMPTS: Final = 8
"""Names to try for a temporary file; one alone could be taken by somebody beforehand."""


class _Place(NamedTuple):
    """An open folder and a name in it."""

    folder: int
    name: str


@contextlib.contextmanager
def _place(path: str, what: str) -> Iterator[_Place]:
    """Open the folder of a path.  Raises UsageError where others lead there, OSError elsewhere."""
    above, name = os.path.split(path)
    if name in ("", ".", ".."):
        raise UsageError(f"{what} {path!r} is not the name of a file", "name a plain file")
    folder = _walked(above, what, path)
    try:
        yield _Place(folder, name)
    finally:
        os.close(folder)


def _walked(above: str, what: str, path: str) -> int:
    """Return the open folder at the end of a path."""
    folder = os.open("/" if above.startswith("/") else ".", _FOLDER)
    rest, links = above.split("/")[::-1], 0
    try:
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            found = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISLNK(found.st_mode):
                folder = _moved(folder, os.open(part, _FOLDER, dir_fd=folder))
                continue
            if found.st_uid not in (0, os.geteuid()):
                raise UsageError(
                    f"{what} {path}: {part} on its way is a link of another user "
                    f"(uid {found.st_uid})",
                    "name the file by its real path",
                )
            target, links = os.readlink(part, dir_fd=folder), links + 1
            if links > _MOST_LINKS:
                raise UsageError(f"{what} {path} leads in a circle of links", "name another file")
            rest += target.split("/")[::-1]
            if target.startswith("/"):
                folder = _moved(folder, os.open("/", _FOLDER))
    except BaseException:
        os.close(folder)
        raise
    return folder


def _moved(old: int, new: int) -> int:
    os.close(old)
    return new


def replace(path: str, data: bytes, mode: int, what: str = "the file") -> None:
    """Put data in the place of a file: readers see the old content or the new, never a part.

    The new content is on disk before it gets the name, so that not even a crash loses both.  `what`
    names the file in refusals.  Raises UsageError where it is not ours to replace, and OSError.
    """
    with _place(path, what) as place:
        _refuse_foreign(place, path, what)
        _remove_leftovers(place)
        file, temporary = _temporary(place)
        try:
            try:
                _write_all(file, data)
                os.fchmod(file, mode)
                os.fsync(file)
            finally:
                os.close(file)
            os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place.folder)
            raise
        _sync(place.folder)


def _temporary(place: _Place) -> tuple[int, str]:
    """Return a new file beside a place, and its name, which nobody can have taken on purpose."""
    for attempt in range(1, _ATTEMPTS + 1):
        name = f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
            return os.open(name, flags, 0o600, dir_fd=place.folder), name
        except FileExistsError:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _readable(folder: int) -> int | None:
    """Return a folder opened for reading, None for one that may be written but not read."""
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None


def _sync(folder: int) -> None:
    handle = _readable(folder)
    if handle is None:
        return  # the rename is done all the same
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(place: _Place) -> None:
    """Remove our own temporary files of runs that were killed."""
    handle = _readable(place.folder)
    if handle is None:
        return
    try:
        for found in os.listdir(handle):
            pid = _pid_of_leftover(place.name, found)
            if pid is not None and not _lives(pid):
                with contextlib.suppress(OSError):
                    if os.stat(found, dir_fd=handle, follow_symlinks=False).st_uid == os.geteuid():
                        os.unlink(found, dir_fd=handle)
    finally:
        os.close(handle)


def _pid_of_leftover(name: str, found: str) -> str | None:
    """Return the number of the process that left a file, None where its name is no such name."""
    # [0-9]: isdigit() also takes "²", which is no number to int().
    left = re.fullmatch(rf"\.{re.escape(name)}\.([0-9]{{1,10}})(\.[0-9a-f]{{8}})?\.tmp", found)
    return left[1] if left else None


def _lives(pid: str) -> bool:
    return int(pid) != os.getpid() and os.path.exists(f"/proc/{pid}")


def _refuse_foreign(place: _Place, path: str, what: str) -> None:
    """Raise UsageError where a place holds something else than a file of our own, or nothing.

    Renaming over a link or a device would replace it; what somebody else laid out may be a trap.
    """
    try:
        found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{what} {path} is not a plain file", "name a plain file, not a link")
    if found.st_uid != os.geteuid():
        raise UsageError(
            f"{what} {path} belongs to another user (uid {found.st_uid})",
            "run as that user or name another file",
        )


def read_own(path: str, most: int, what: str) -> bytes | None:
    """Return a file of our own, None where there is none; more than `most` bytes are not read.

    Raises UsageError where it is not ours, OSError where it cannot be read.
    """
    with _place(path, what) as place:
        _refuse_foreign(place, path, what)
        try:
            # Not to hang on a pipe that takes the file's place just now.
            flags = os.O_RDONLY | os.O_NONBLOCK | _FLAGS
            file = os.open(place.name, flags, dir_fd=place.folder)
        except FileNotFoundError:
            return None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(f"{what} {path} was replaced while it was opened", "run again")
        return _read(file, most + 1)
    finally:
        os.close(file)


def open_lock(path: str, what: str) -> int:
    """Return a file of our own to lock, made where there is none.  Raises UsageError, OSError."""
    with _place(path, what) as place:
        _refuse_foreign(place, path, what)
        return os.open(place.name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=place.folder)


def _read(file: int, most: int) -> bytes:
    parts: list[bytes] = []
    while most and (part := os.read(file, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
