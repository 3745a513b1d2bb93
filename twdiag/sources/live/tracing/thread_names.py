"""Who the threads of events are: their processes and names, from /proc while they exist."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from twdiag.model.closes import (
    IN_INTERRUPT,
    Closer,
    SocketGone,
    StateChange,
    ThreadBegins,
    ThreadEnds,
)
from twdiag.sources.live.tracing.tracefs import read

if TYPE_CHECKING:
    from twdiag.model.closes import TraceEvent

_INIT_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_NAME_SECONDS: Final = 1.0
_CLONE_THREAD: Final = 0x10000  # include/uapi/linux/sched.h
_MOST_NAMES: Final = 4096


class ThreadNames:
    """Who the threads of events are: read from /proc while they exist, and kept as they exit."""

    def __init__(self) -> None:
        # In another PID namespace the numbers of events and those of /proc are different people's.
        self._same_numbers = _in_first_pid_namespace()
        self._known: dict[int, tuple[float, Closer]] = {}
        self._gone: dict[int, Closer] = {}
        self._pids: dict[int, int] = {}

    def of(self, tid: int) -> Closer:
        """Return what is known of a thread."""
        known = self._known.get(tid)
        return known[1] if known is not None else self._gone.get(tid, Closer(tid, None, None, None))

    def learn(self, events: list[TraceEvent]) -> None:
        """Look at the threads that events speak of, those that have exited meanwhile included."""
        now = time.monotonic()
        seen = 0
        for event in events:
            kind = type(event)
            if kind is StateChange or kind is SocketGone:
                if event.flags & IN_INTERRUPT:  # type: ignore[union-attr]
                    continue
                tid: int = event.tid  # type: ignore[union-attr]
                if tid == seen:
                    continue
                seen = tid
                known = self._known.get(tid)
                if known is None or known[0] < now:
                    self._look_at(tid, now)
            elif kind is ThreadEnds:
                self._bury(event)  # type: ignore[arg-type]
                seen = 0
            elif kind is ThreadBegins:
                self._born(event)  # type: ignore[arg-type]

    def _look_at(self, tid: int, now: float) -> None:
        # That one is gone is remembered too: looking for it at each of its events is dear.
        found = self._in_proc(tid) or self._gone.get(tid)
        if found is None:
            found = Closer(tid, self._pids.get(tid), None, None)
        if len(self._known) >= _MOST_NAMES:
            self._known.clear()
        self._known[tid] = now + _NAME_SECONDS, found

    def _born(self, event: ThreadBegins) -> None:
        """Note the process of a new thread: one that lives for less than a look is not in /proc."""
        if len(self._pids) >= _MOST_NAMES:
            self._pids.clear()
        if not event.flags & _CLONE_THREAD:
            self._pids[event.tid] = event.tid
            return
        maker = self._known.get(event.maker)
        pid = self._pids.get(event.maker) or (None if maker is None else maker[1].pid)
        if pid is not None:
            self._pids[event.tid] = pid

    def _bury(self, event: ThreadEnds) -> None:
        if len(self._gone) >= _MOST_NAMES:
            self._gone.clear()
        known = self._known.pop(event.tid, None)
        found = known[1] if known is not None and known[1].name else self._in_proc(event.tid)
        pid, name = (None, None) if found is None else (found.pid, found.name)
        pid = self._pids.pop(event.tid, None) if pid is None else pid
        self._gone[event.tid] = Closer(event.tid, pid, name or event.name, event.name)

    def _in_proc(self, tid: int) -> Closer | None:
        if not self._same_numbers:
            return None
        try:
            status = read(f"/proc/{tid}/status")
            pid = int(status.partition("\nTgid:")[2].split(None, 1)[0])
            thread = read(f"/proc/{tid}/comm").rstrip("\n")
            name = thread if pid == tid else read(f"/proc/{pid}/comm").rstrip("\n")
        except (OSError, ValueError, IndexError):
            return None
        return Closer(tid, pid, name, thread)


def _in_first_pid_namespace() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INIT_PID_NAMESPACE
    except OSError:
        return False
