"""What a terminal is told while a look takes long."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from twdiag.cli import terminal

if TYPE_CHECKING:
    import pytest


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def wait_for(screen: Screen) -> str:
    """Return what a screen shows once it shows anything."""
    until = time.monotonic() + 10
    while not screen.getvalue() and time.monotonic() < until:
        time.sleep(0.001)
    return screen.getvalue()


def test_who_waits_is_told_what_for_and_no_thread_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, before = Screen(), threads()
    handler = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.patience("reading", 0.01):
        assert threads() == before  # some looks fork, and a child has no second thread
        assert wait_for(screen) == "reading ...\n"
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_quick_look_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.patience("reading", 60):
        pass
    assert screen.getvalue() == ""


def test_a_terminal_that_has_gone_does_not_end_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Gone(Screen):
        def write(self, text: str) -> int:
            asked.append(text)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with terminal.patience("reading", 0.01):
        until = time.monotonic() + 10
        while not asked and time.monotonic() < until:
            time.sleep(0.001)
    assert asked
