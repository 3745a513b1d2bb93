"""A terminal for tests: a real pseudo-terminal, and an emulator of the codes that are written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import TracebackType

PATIENCE: Final = 30.0
_CODE: Final = re.compile(rb"\x1b\[(\?)?([0-9;]*)([A-Za-z])")
_TEXT: Final = re.compile(rb"[^\x1b\r\n\x08\x07]+")


class Emulator:
    """What a terminal shows after the bytes that were written to it."""

    def __init__(self, columns: int, lines: int) -> None:
        self.other_screen = False
        self.cursor_hidden = False
        self.styled = False
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """Have another size, empty."""
        self.columns, self.lines = columns, lines
        self._cells = [[" "] * columns for _ in range(lines)]
        self._row = self._column = 0

    @property
    def rows(self) -> list[str]:
        """The lines that are shown, without blanks at their ends."""
        return ["".join(row).rstrip() for row in self._cells]

    def feed(self, data: bytes) -> bytes:
        """Take in some bytes; return the beginning of a code that is not complete."""
        at = 0
        while at < len(data):
            code, text = _CODE.match(data, at), _TEXT.match(data, at)
            if code:
                self._obey(bool(code[1]), code[2].decode(), code[3].decode())
                at = code.end()
            elif text:
                try:
                    self._put(text[0].decode())
                except UnicodeDecodeError:  # a character was cut by the end of a read
                    return data[at:]
                at = text.end()
            elif data[at : at + 1] == b"\x1b" and len(data) - at < 12:
                return data[at:]
            else:
                self._control(data[at])
                at += 1
        return b""

    def _control(self, byte: int) -> None:
        if byte == 0x0D:
            self._column = 0
        elif byte == 0x0A:
            if self._row == self.lines - 1:
                self._cells = [*self._cells[1:], [" "] * self.columns]
            self._row = min(self.lines - 1, self._row + 1)

    def _put(self, text: str) -> None:
        for character in text:
            if self._column >= self.columns:  # as terminals do: the next line
                self._control(0x0D)
                self._control(0x0A)
            self._cells[self._row][self._column] = character
            self._column += 1

    def _obey(self, private: bool, numbers: str, kind: str) -> None:
        if private:
            on = kind == "h"
            if numbers == "1049":
                self.other_screen = on
                self.resize(self.columns, self.lines)
            elif numbers == "25":
                self.cursor_hidden = not on
        elif kind == "H":
            row, _, column = numbers.partition(";")
            self._row = min(self.lines, int(row or 1)) - 1
            self._column = min(self.columns, int(column or 1)) - 1
        elif kind == "J":
            self._cells = [[" "] * self.columns for _ in range(self.lines)]
        elif kind == "K":
            first = 0 if numbers == "2" else min(self._column, self.columns)
            self._cells[self._row][first:] = [" "] * (self.columns - first)
        elif kind == "m":
            self.styled = self.styled or numbers not in ("", "0")


class Pseudo:
    """A command in a terminal of its own."""

    def __init__(
        self, *words: str, columns: int = 80, lines: int = 24, environ: dict[str, str] | None = None
    ) -> None:
        self.master, slave = pty.openpty()
        self._resize(columns, lines)
        self.screen = Emulator(columns, lines)
        self.written = b""
        self._rest = b""
        self.found = self.attributes()
        settings = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        others = ("TWDIAG", "LC_", "NO_C", "COLUMNS", "LINES")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept | settings | (environ or {}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> Pseudo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self.hang_up()

    def hang_up(self) -> None:
        """Take the terminal away."""
        with contextlib.suppress(OSError):
            os.close(self.master)

    def attributes(self) -> list[Any]:
        """Return how the terminal is set, as termios has it."""
        return termios.tcgetattr(self.master)

    def _resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size; the kernel tells the process."""
        self.screen.resize(columns, lines)
        self._resize(columns, lines)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def read(self, seconds: float = 0.05) -> bool:
        """Take in what is written within some time; return False once nobody writes any more."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:
            return False
        self.written += data
        self._rest = self.screen.feed(self._rest + data)
        return bool(data)

    def wait_for(self, what: Callable[[Emulator], object]) -> list[str]:
        """Wait until the screen is as wanted, and return its lines."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if what(self.screen):
                return self.screen.rows
            if not self.read() and not what(self.screen):
                break
        raise AssertionError("never shown; at last:\n" + "\n".join(self.screen.rows))

    def wait_for_text(self, *texts: str) -> list[str]:
        """Wait until all of some texts are on the screen."""
        return self.wait_for(lambda s: all(any(t in row for row in s.rows) for t in texts))

    def end(self) -> int:
        """Wait for the end of the command, taking in all it writes, and return its exit code."""
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self.read()
        while self.read(0) and select.select([self.master], [], [], 0)[0]:
            pass
        return self.process.wait(1)

    def signal(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self.process.send_signal(number)


def watch(*words: str, columns: int = 80, lines: int = 24, **environ: str) -> Pseudo:
    """Return `twdiag watch` in a terminal; it looks ten times a second."""
    command = (sys.executable, "-m", "twdiag", "watch", "--interval", "0.1", "--source", "none")
    return Pseudo(*command, *words, columns=columns, lines=lines, environ=environ)
