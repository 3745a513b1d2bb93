"""The terminal of the live screen: its other screen, changed lines, keys and signals.

Whatever ends or stops the process, the terminal is left as it was found; only SIGKILL cannot be
heard.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Final

from twdiag.cli.keyboard import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from twdiag.render.pieces import StyledLine

_OTHER_SCREEN: Final = "\x1b[?1049h\x1b[?25l"
_OWN_SCREEN: Final = "\x1b[?25h\x1b[?1049l"
_CLEAR: Final = "\x1b[0m\x1b[2J"
_TO_END: Final = "\x1b[K"
_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}
_ESCAPE_SECONDS: Final = 0.05
"""For how long the rest of an arrow's bytes can be on its way; a slow link takes no longer."""


def painted(line: StyledLine) -> str:
    """Return a line with the codes of its style."""
    text, style = line
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def changes(before: Sequence[str], after: Sequence[str], widths: Sequence[bool]) -> str:
    """Return what to write so that a screen with some lines shows others: the changed ones alone.

    `widths` tells which lines reach the last column: there is nothing to clear behind them, and
    where the cursor still stands on the last cell, clearing would take that.
    """
    out = []
    for number, line in enumerate(after):
        if number < len(before) and before[number] == line:
            continue
        out.append(f"\x1b[{number + 1};1H{line}{'' if widths[number] else _TO_END}")
    out += [f"\x1b[{number + 1};1H\x1b[2K" for number in range(len(after), len(before))]
    return "".join(out)


class Signals:
    """What signals have asked for since they were last looked at; a wait ends when one comes."""

    def __init__(self) -> None:
        self.stop = self.resized = self.suspend = self.continued = False

    @contextlib.contextmanager
    def heard(self, *, on_screen: bool) -> Iterator[int]:
        """Hear the signals; yields a descriptor that can be read when one has come."""
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        # A signal that whoever started us ignores (nohup) stays ignored.
        numbers = [n for n in numbers if n is signal.SIGINT or _is_heeded(n)]
        if on_screen:
            numbers += [signal.SIGWINCH, signal.SIGCONT]
            numbers += [signal.SIGTSTP] if _is_heeded(signal.SIGTSTP) else []
        before = {number: signal.signal(number, self._hear) for number in numbers}
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reading)
            os.close(writing)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGWINCH:
            self.resized = True
        elif number == signal.SIGTSTP:
            self.suspend = True
        elif number == signal.SIGCONT:
            self.continued = True
        elif self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second: whatever is being done ends now
        else:
            self.stop = True


def _is_heeded(number: signal.Signals) -> bool:
    return signal.getsignal(number) is not signal.SIG_IGN


class Terminal:
    """A terminal that shows lines and gives keys; `keys` None is one that gives none."""

    def __init__(self, *, color: bool, keys: int | None) -> None:
        self._color = color
        self._out = sys.stdout.fileno()
        self._in = keys
        self._lines: list[str] = []
        self._rest = b""
        self._found: object = None

    @property
    def handles(self) -> list[int]:
        """The descriptors that can be read when a key was pressed."""
        return [] if self._in is None else [self._in]

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines of the terminal; a serial console says 0, and gets 80 and 24."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            columns = lines = 0
        return columns or 80, lines or 24

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the other screen; afterwards the terminal is as it was, come what may."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Show the other screen, and take keys one by one."""
        if self._in is not None:
            import termios
            import tty

            if self._found is None:
                self._found = termios.tcgetattr(self._in)
            # Ctrl-C and Ctrl-Z go on being signals; a key that was pressed before is not lost.
            tty.setcbreak(self._in, termios.TCSADRAIN)
        self._write(_OTHER_SCREEN + _CLEAR)
        self._lines = []

    def leave(self) -> None:
        """Put the terminal back as it was found; one that is gone needs nothing."""
        with contextlib.suppress(OSError):
            # At the bottom, for terminals that have no other screen.
            self._write(f"\x1b[0m\x1b[{self.size[1]};1H\n{_OWN_SCREEN}")
        if self._in is not None and self._found is not None:
            import termios

            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._in, termios.TCSADRAIN, self._found)  # type: ignore[arg-type]

    def suspend(self) -> None:
        """Stop as Ctrl-Z does, with the terminal as it was; return when the shell goes on."""
        self.leave()
        hear = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, hear)
        self.enter()

    def clear(self) -> None:
        """Forget what is shown: the next lines are written whole."""
        self._write(_CLEAR)
        self._lines = []

    def draw(self, lines: Sequence[StyledLine], width: int) -> None:
        """Show these lines; only those that have changed are written, at once."""
        from twdiag.render.cells import width_of

        painted_lines = [painted(line) if self._color else line[0] for line in lines]
        full = [width_of(text) >= width for text, _ in lines]
        text = changes(self._lines, painted_lines, full)
        self._lines = painted_lines
        if text:
            self._write(text)

    def read(self) -> list[str] | None:
        """Return the keys that were pressed, None where the terminal is gone."""
        assert self._in is not None
        try:
            data = os.read(self._in, 1024)
        except OSError:
            return None
        if not data:
            return None
        keys, self._rest = keys_of(self._rest + data)
        if self._rest and not select.select([self._in], [], [], _ESCAPE_SECONDS)[0]:
            more, self._rest = keys_of(self._rest, no_more=True)
            keys += more
        return keys

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "ascii", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:  # somebody who shares the terminal has set it so
                select.select([], [self._out], [], 1.0)
