"""`twdiag watch`: the live screen, or a block for each look where there is no terminal."""

from __future__ import annotations

import contextlib
import enum
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twdiag.cli.options import (
    Color,
    ColorOption,
    ConfigOption,
    ForOption,
    IgnoreOption,
    LimitOption,
    NetnsOption,
    PortOption,
    ProcessOption,
    SelectOption,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twdiag.cli.live_terminal import Signals, Terminal
    from twdiag.engine.frames import Frame
    from twdiag.engine.watch import Watch, WatchRequest
    from twdiag.render.live_keys import Choice
    from twdiag.render.pieces import Look

EPILOG: Final = """\b
Examples:
  twdiag watch                           the live screen; ? has its keys
  twdiag watch --port 5432 --interval 5s
  twdiag watch --netns web_1             in a container
  twdiag watch --json --count 10 | jq -c .time_wait

\b
Exit status: 0 when it ends, whatever it showed; 3 if it could not look.
"""

_STEP: Final = 0.1
"""Seconds after which ended connections are read at the latest: their buffers are small."""


_GATHER: Final = 0.02
"""Seconds in which more may end: at 10,000 a second, a plain user's room holds so many."""


class ClosesSource(str, enum.Enum):
    """Where the ends of connections can be learned from."""

    AUTO = "auto"
    TRACEFS = "tracefs"
    MULTICAST = "multicast"
    NONE = "none"


def watch(
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Look again after this time.")
    ] = "1s",
    port: PortOption = None,
    process: ProcessOption = None,
    netns: NetnsOption = None,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, max=1_000_000_000, metavar="N", help="End after N looks."),
    ] = None,
    duration: ForOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON, schema twdiag-watch/1, a line for a look.")
    ] = False,
    source: Annotated[
        ClosesSource,
        typer.Option("--source", help="Learn of closes from this source; auto is the best."),
    ] = ClosesSource.AUTO,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    limit: LimitOption = None,
    config: ConfigOption = None,
    ascii: Annotated[
        bool, typer.Option("--ascii", help="Draw with ASCII characters only.")
    ] = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Watch what closes, piles up and runs out, live.

    Without a terminal it writes a block for each look. As root it also names the processes that
    close, through a private tracing instance that it removes.
    """
    from twdiag.cli import terminal
    from twdiag.cli.times import parse_time
    from twdiag.engine.watch import WatchRequest

    terminal.make_output_safe()
    request = WatchRequest(
        ports=tuple(port or ()),
        processes=tuple(process or ()),
        select=tuple(select or ()),
        ignore=tuple(ignore or ()),
        limits=tuple(limit or ()),
        config=config,
        interval=parse_time(interval, "--interval"),
        netns=netns,
        closes=source.value,
    )
    seconds = None if duration is None else parse_time(duration)
    end = _End(count, seconds)
    if json or not _has_screen():
        _write_all(request, end, json=json)
    else:
        _show(request, end, _look(ascii=ascii, color=color.value))


def _has_screen() -> bool:
    """Return whether there is a terminal that can show a screen."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _look(*, ascii: bool, color: str) -> Look:
    from twdiag.cli import terminal
    from twdiag.render.pieces import Look

    wants_color = terminal.wants_color(True, color, os.environ)
    return Look(color=wants_color, unicode=not ascii and terminal.draws(sys.stdout))


class _End:
    """When the watch ends by itself."""

    def __init__(self, looks: int | None, seconds: float | None) -> None:
        self._left = looks
        self._seconds = seconds
        self._at: float | None = None

    def begin(self) -> None:
        """Let the time begin."""
        self._at = None if self._seconds is None else time.monotonic() + self._seconds

    def looked(self) -> bool:
        """Count a look; return whether it was the last one."""
        if self._left is not None:
            self._left -= 1
        return self._left == 0

    def left(self) -> float:
        """Return the seconds that are left."""
        return float("inf") if self._at is None else self._at - time.monotonic()


@contextlib.contextmanager
def _watching(request: WatchRequest) -> Iterator[Watch]:
    """Watch in the namespace that was asked for."""
    from twdiag.cli import streams
    from twdiag.engine.watch import Watch
    from twdiag.wording import visible

    with contextlib.ExitStack() as stack:
        namespace = None
        if request.netns is not None:
            from twdiag.engine.netns import resolve
            from twdiag.sources.live.namespaces.entering import entered

            namespace = resolve(request.netns)
            stack.enter_context(entered(namespace))
        watched = Watch(request, namespace)
        for note in watched.notes:
            streams.say(f"twdiag: {visible(note)}")
        yield stack.enter_context(watched)


# Without a terminal.


def _write_all(request: WatchRequest, end: _End, *, json: bool) -> None:
    """Write each look as it is made."""
    from twdiag.cli.live_terminal import Signals

    render = _renderer(json=json)
    signals = Signals()
    with signals.heard(on_screen=False) as woken, _watching(request) as watched:
        end.begin()
        while not signals.stop:
            render(watched.look())
            sys.stdout.flush()
            if end.looked() or end.left() <= 0:
                return
            until = min(watched.due, time.monotonic() + end.left())
            while not signals.stop and time.monotonic() < until:
                _wait(watched, [woken], min(until, time.monotonic() + _STEP))
                until = max(until, min(watched.due, time.monotonic() + end.left()))
            if end.left() <= 0:
                return


def _renderer(*, json: bool) -> Callable[[Frame], None]:
    """Return what writes a frame to stdout."""
    if json:
        from twdiag.render.live_json import render_line

        return lambda frame: render_line(frame, sys.stdout)
    from twdiag.render.live_text import render_block

    return lambda frame: render_block(frame, sys.stdout)


def _wait(watched: Watch, handles: Iterable[int], until: float) -> list[int]:
    """Wait for one of these descriptors or the time; connections that end meanwhile are read.

    Returns the descriptors that can be read.
    """
    handles = list(handles)
    followed = watched.waits_for()
    seconds = max(0.0, until - time.monotonic())
    ready = select.select([*handles, *followed], [], [], seconds)[0]
    if not set(ready).isdisjoint(followed):
        time.sleep(_GATHER)
    watched.step()
    return [handle for handle in ready if handle in handles]


# On a terminal.


def _show(request: WatchRequest, end: _End, look: Look) -> None:
    """Show the screen until a key, a signal or the time ends it, and say what was seen."""
    from twdiag.cli.live_terminal import Signals, Terminal
    from twdiag.cli.terminal import width_of
    from twdiag.render.live_text import last_words
    from twdiag.render.pieces import fitted

    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    terminal, signals = Terminal(color=look.color, keys=keys), Signals()
    began = time.monotonic()
    with signals.heard(on_screen=True) as woken:
        with _watching(request) as watched, terminal.shown():
            end.begin()
            screen = _Screen(watched, terminal, signals, look)
            screen.run(end, woken)
        width = width_of(sys.stdout)
        for line in last_words(screen.latest, time.monotonic() - began):
            for part in fitted(line, width):
                sys.stdout.write(part + "\n")


class _Screen:
    """The loop of the screen: looks, keys and signals, each followed by what has changed."""

    def __init__(self, watched: Watch, terminal: Terminal, signals: Signals, look: Look) -> None:
        from twdiag.render.live_keys import Choice

        self._watched = watched
        self._terminal = terminal
        self._signals = signals
        self._look = look
        self._choice: Choice = Choice()
        self.latest: Frame = watched.look()
        self._shown = self.latest

    def run(self, end: _End, woken: int) -> None:
        """Show frame after frame until something ends it."""
        self._draw()
        ends = end.looked()
        while not (ends or self._signals.stop or end.left() <= 0):
            until = min(self._watched.due, time.monotonic() + min(end.left(), _STEP))
            for handle in _wait(self._watched, [woken, *self._terminal.handles], until):
                if handle == woken:
                    self._heed(woken)
                elif self._pressed(self._terminal.read()):
                    return
            if time.monotonic() >= self._watched.due and not self._signals.stop:
                self.latest = self._watched.look()
                ends = end.looked()
                self._draw()

    def _draw(self) -> None:
        from dataclasses import replace

        from twdiag.render.live import live

        width, height = self._terminal.size
        if not self._choice.paused:
            self._shown = self.latest
        look = replace(self._look, width=width, height=height)
        self._terminal.draw(live(self._shown, self._choice, look), width)

    def _heed(self, woken: int) -> None:
        """Do what signals have asked for."""
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 1024)
        signals = self._signals
        if signals.stop:
            return
        if signals.suspend:
            signals.suspend = False
            self._watched.rest()
            self._terminal.suspend()
        elif signals.continued:
            self._terminal.enter()  # stopped by a signal that cannot be heard
        elif signals.resized:
            self._terminal.clear()
        signals.continued = signals.resized = False
        self._draw()

    def _pressed(self, keys: list[str] | None) -> bool:
        """Do what keys ask for; return whether that is to end."""
        from twdiag.render.live_keys import press

        if keys is None:
            return True
        for key in keys:
            self._choice, deed = press(self._choice, key, self._shown)
            if deed == "quit":
                return True
            if deed == "reset":
                self._watched.reset()
                self._shown = self.latest = self._watched.look()
            elif deed == "explain":
                self._explain()
        self._draw()
        return False

    def _explain(self) -> None:
        """Open the page of the selected row."""
        from dataclasses import replace

        from twdiag.render.live_keys import About, entry_at, selected

        place = selected(self._shown, self._choice)
        entry = None if place is None else entry_at(self._shown, place)
        if place is None or entry is None:
            return
        findings = self._watched.explained(self._shown, place[0], entry.row)
        about = About(place[0], entry.row, findings, self._watched.namespace)
        self._choice = replace(self._choice, about=about, scroll=0)
