"""The --state file: locked for a whole run, read at its start and replaced at its end."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import TwdiagError, UsageError
from twdiag.history import files, sample
from twdiag.history.deadline import wait_for
from twdiag.sources.live.proc import start_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from twdiag.history.notify import Told
    from twdiag.model.snapshot import Owner, Snapshot

_BEGINNING: Final = b'{"schema":"twdiag-state/'
"""What every state file begins with, of any version; no other file is ever replaced."""
LOCK_SECONDS: Final = 3.0
"""How long to wait for another run with the same file: longer than a run takes."""


class StateFileBusy(TwdiagError):
    """Another run holds the state file."""


class StateFile:
    """A locked state file.

    `memory` is what the last run remembered, None without one; `notes` tells what is worth to know
    about it (a foreign file, a reboot, a clock step).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.memory: sample.Memory | None = None
        self.notes: list[str] = []
        self._now: sample.Moment | None = None
        self._lock: int | None = None

    def __enter__(self) -> StateFile:
        self._raw()  # refuses a file that is not ours before anything is made beside it
        self._take_lock()
        try:
            self._read()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _take_lock(self) -> None:
        # A lock on the file itself would be lost with each rename.
        try:
            lock = self._lock = files.open_lock(f"{self.path}.lock", "the lock file")
        except OSError as error:
            raise UsageError(
                f"the state file {self.path} cannot be locked: {error.strerror}",
                "name a file in a folder that this user may write to",
            ) from error
        try:
            held = wait_for(lambda: _locked(lock), LOCK_SECONDS)
        except OSError as error:  # ENOLCK, ENOSYS: a network file system without locks
            self._release()
            raise UsageError(
                f"the state file {self.path} cannot be locked: {error.strerror}",
                "name a file on a disk of this host",
            ) from error
        if not held:
            self._release()
            raise StateFileBusy(
                f"another run holds the state file {self.path} for more than {LOCK_SECONDS:.0f} s",
                "give each check a state file of its own",
            )

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _raw(self) -> bytes:
        """Return the content, nothing where there is no file; UsageError where it is not ours."""
        try:
            raw = files.read_own(self.path, sample.MOST_BYTES, "the state file") or b""
        except OSError as error:
            raise UsageError(
                f"the state file {self.path} cannot be read: {error.strerror}",
                "name a file in a folder that this user may write to",
            ) from error
        if raw and not raw.startswith(_BEGINNING):
            raise UsageError(
                f"the state file {self.path} was not written by twdiag, so it stays as it is",
                "name a file that does not exist yet, or empty this one",
            )
        return raw

    def _read(self) -> None:
        raw = self._raw()
        if not raw:
            return
        try:
            if len(raw) > sample.MOST_BYTES:
                raise sample.Foreign(f"it is larger than {sample.MOST_BYTES:,} bytes")
            self.memory = _remembered(raw)
        except sample.Foreign as error:
            self.notes.append(f"the state file {self.path} is not used and starts afresh: {error}")

    def earlier(self, snapshot: Snapshot) -> Snapshot | None:
        """Return the remembered sample as the earlier one of a snapshot taken just now.

        None where there is nothing that can be compared.
        """
        now = self._now = moment()
        if self.memory is None:
            return None
        why = sample.why_not_comparable(self.memory, now)
        if why:
            self.notes.append(f"nothing is compared with the last run: {why}")
            return None
        step = sample.clock_step(self.memory, now)
        if step:
            self.notes.append(
                f"the clock was set by {step:+,.0f} s since the last run; the time between the "
                "runs is taken from the time since boot"
            )
        pids = (process.owner.pid for process in self.memory.processes)
        alive = {pid: started for pid in pids if (started := start_of(pid)) is not None}
        return sample.earlier_sample(self.memory, now, snapshot, alive)

    @property
    def last_status(self) -> str | None:
        """The status of the run before this one, None without one."""
        return None if self.memory is None else self.memory.status

    @property
    def told(self) -> Told | None:
        """What was told last, None where nothing was."""
        return None if self.memory is None else self.memory.told

    @property
    def wall(self) -> float:
        """The wall clock of this run."""
        self._now = self._now or moment()
        return self._now.wall

    def remember(self, snapshot: Snapshot, status: str, told: Told) -> None:
        """Replace what is remembered by the snapshot that `earlier` was asked for.

        Raises OSError.
        """
        now = self._now or moment()
        owners = {o.pid: o for group in snapshot.owners.values() for o in group}
        owners |= {owner.pid: owner for owner in snapshot.crowded}
        self._write(sample.to_data(snapshot, now, _processes(owners.values()), status, told))

    def remember_status(self, status: str, told: Told) -> None:
        """Replace the remembered status alone, where there is a sample to keep.  Raises OSError."""
        if self.memory is not None:
            self._write({**self.memory.data, "status": status, "told": list(told)})
        else:
            self._write({**_without_sample(status), "told": list(told)})

    def _write(self, data: dict[str, Any]) -> None:
        text = json.dumps({"schema": sample.SCHEMA} | data, separators=(",", ":")) + "\n"
        files.replace(self.path, text.encode(), 0o600, "the state file")


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remembered(raw: bytes) -> sample.Memory:
    """Return what the content of a file remembers; raises Foreign for anything we never write."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise sample.Foreign(f"it is not JSON ({str(error)[:80]})") from error
    try:
        return sample.from_data(data)
    except sample.Foreign:
        raise
    except Exception as error:
        # Addresses and numbers go through decoders of their own, each with errors of its own.
        raise sample.Foreign(f"its content makes no sense ({type(error).__name__})") from error


def _without_sample(status: str) -> dict[str, Any]:
    """Return a memory of a status alone; its boot is none, so nothing is compared with it."""
    return {
        "schema": sample.SCHEMA,
        "boot": "",
        "uptime": 0,
        "wall": 0,
        "netns": 0,
        "source": "",
        "counters": {},
        "rows": None,
        "processes": [],
        "status": status,
    }


def moment() -> sample.Moment:
    """Return the present moment of this host and namespace."""
    return sample.Moment(
        _text("/proc/sys/kernel/random/boot_id").strip(),
        time.clock_gettime(time.CLOCK_BOOTTIME),
        time.time(),
        _netns(),
    )


def _netns() -> int:
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _processes(owners: Iterable[Owner]) -> list[sample.RememberedOwner]:
    found = ((start_of(owner.pid), owner) for owner in owners)
    return [
        sample.RememberedOwner(started, owner) for started, owner in found if started is not None
    ]
