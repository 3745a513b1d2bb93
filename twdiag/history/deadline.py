"""A time limit that holds whatever hangs: a signal for python, a thread for all the rest."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

GRACE: Final = 2.0
"""How long the answer may take to get out after the time limit, in seconds."""


class TimeIsUp(BaseException):
    """The time limit is reached.  Not an Exception, so that no reader takes it for its own."""


class Deadline:
    """A time limit: from start() to stop(), `TimeIsUp` is raised in the midst of any system call.

    Where even that does not help, because the main thread hangs in a call that no signal ends or
    because nobody takes its output, a second thread writes `last_words` and ends the process, until
    end().  Both start() and stop() belong inside of the `try` that catches TimeIsUp, and end() in a
    `finally`.  `doing` says what is being done, for the message.
    """

    def __init__(self, seconds: float, last_words: str) -> None:
        self.seconds = seconds
        self.doing = "starting"
        self._ends = time.monotonic() + seconds
        self._last_words = last_words.encode()
        self._over = _thread.allocate_lock()
        self._before: signal._HANDLER = None
        self._rings = False

    def start(self) -> None:
        """Let the time run."""
        self._over.acquire()
        self._ends = time.monotonic() + self.seconds
        self._before = signal.signal(signal.SIGALRM, self._ring)
        self._rings = True
        _thread.start_new_thread(self._watch, ())
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def begins(self, doing: str) -> None:
        """Note what is being done from now on."""
        self.doing = doing

    @property
    def left(self) -> float:
        """The seconds until the time limit, 0 after it."""
        return max(0.0, self._ends - time.monotonic())

    def stop(self) -> None:
        """Let nothing interrupt what is done from now on, short of the end of the process."""
        self._rings = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def end(self) -> None:
        """Let the process live on, whatever was started."""
        self.stop()
        if self._over.locked():
            self._over.release()
            if self._before is not None:  # start() may have been interrupted
                signal.signal(signal.SIGALRM, self._before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._rings:
            raise TimeIsUp

    def _watch(self) -> None:
        if self._over.acquire(timeout=self.seconds + GRACE):
            return
        # Whoever reads the output may be what hangs.
        with contextlib.suppress(OSError):
            os.set_blocking(1, False)
            os.write(1, self._last_words)
        os._exit(3)


def wait_for(ready: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Return whether a call returns True within some seconds; it is asked again and again."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True
