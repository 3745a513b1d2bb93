"""`twdiag trace`: one line for each TCP connection as it ends, and a summary."""

from __future__ import annotations

import contextlib
import enum
import mmap
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twdiag.cli.options import ForOption, NetnsOption, PortOption, ProcessOption  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from twdiag.model.closes import Close
    from twdiag.render.trace import CloseTextLines
    from twdiag.render.trace_json import CloseJsonLines

EPILOG: Final = """\b
Examples:
  twdiag trace                       until Ctrl-C
  twdiag trace --port 5432 --for 30s
  twdiag trace --netns web_1         a container, a namespace, a PID
  twdiag trace --process nginx --json | jq -c 'select(.why == "exit")'
"""


class TraceSource(str, enum.Enum):
    """Where the ends of connections can be learned from."""

    AUTO = "auto"
    TRACEFS = "tracefs"
    MULTICAST = "multicast"


def trace(
    port: PortOption = None,
    process: ProcessOption = None,
    netns: NetnsOption = None,
    duration: ForOption = None,
    source: Annotated[
        TraceSource,
        typer.Option(
            "--source", help="Learn of closes from this source; auto is the best that is allowed."
        ),
    ] = TraceSource.AUTO,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON, one object for each line.")
    ] = False,
) -> None:
    """Show each connection's end: who closed first, how and why.

    It writes a line as each ends, and a summary at Ctrl-C. As root it makes a private tracing
    instance, and removes it.
    """
    from twdiag.cli import terminal
    from twdiag.cli.times import parse_time
    from twdiag.engine.trace import Hooks, TraceRequest
    from twdiag.engine.trace import trace as follow
    from twdiag.render.trace import CloseTextLines
    from twdiag.render.trace_json import CloseJsonLines

    terminal.make_output_safe()
    request = TraceRequest(
        frozenset(port or ()),
        frozenset(process or ()),
        None if duration is None else parse_time(duration),
        source.value,
        netns,
    )
    lines: CloseJsonLines | CloseTextLines = (
        CloseJsonLines(sys.stdout)
        if json
        else CloseTextLines(sys.stdout, terminal.width_of(sys.stdout))
    )
    writer = _Writer(lines)
    with _signals() as stopped:
        hooks = Hooks(writer.close, _say, stopped.asked, writer.ready, writer.flush)
        outcome = follow(request, hooks)
        lines.summary(outcome)
        lines.flush()


class _Writer:
    """Writes lines, and lets them be seen at the end of each burst."""

    def __init__(self, lines: CloseJsonLines | CloseTextLines) -> None:
        self._lines = lines
        self._unseen = False

    def ready(self) -> None:
        self._lines.head()
        self._lines.flush()
        if sys.stderr is not None and sys.stderr.isatty():
            print("Tracing. Ctrl-C ends it with a summary.", file=sys.stderr)

    def close(self, close: Close) -> None:
        self._lines.close(close)
        self._unseen = True

    def flush(self) -> None:
        if self._unseen:
            self._unseen = False
            self._lines.flush()


class _Stop:
    """Whether a signal has asked to end; a second one interrupts whatever is being done.

    A child that follows in another user namespace shares the answer.
    """

    def __init__(self) -> None:
        self._asked = mmap.mmap(-1, 1)
        self._signals = 0

    def asked(self) -> bool:
        return self._asked[0] != 0

    def ask(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            raise KeyboardInterrupt
        self._asked[0] = 1


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    """Let the signals that end a process end the trace in order, so that nothing is left behind."""
    stop = _Stop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # A signal that whoever started us ignores (nohup) stays ignored.
    before = {n: signal.signal(n, stop.ask) for n in numbers if _heeded(n)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded(number: signal.Signals) -> bool:
    return number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN


def _say(sentence: str) -> None:
    from twdiag.cli import streams
    from twdiag.wording import visible

    streams.say(f"twdiag: {visible(sentence)}.")
