"""Write ended connections as lines of text, and what was found behind the summary."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from twdiag.analysis.close_summary import TICK
from twdiag.model.closes import Opened, Why
from twdiag.render.cells import short_age
from twdiag.render.pieces import Look
from twdiag.render.screen import finding_lines
from twdiag.render.trace_summary import summary_lines
from twdiag.wording import endpoint, visible

if TYPE_CHECKING:
    from typing import TextIO

    from twdiag.analysis.close_summary import TraceOutcome
    from twdiag.model.closes import Close, Closer

_WHY: Final = {
    Why.CLOSE: "close()",
    Why.SHUTDOWN: "shutdown()",
    Why.EXIT: "exit",
    Why.KILLED: "SIGKILL",
    Why.UNREAD: "unread data",
    Why.LINGER: "SO_LINGER 0",
    Why.NEVER_ACCEPTED: "never accepted",
    Why.ABORT: "aborted",
    Why.LATE_DATA: "data after close",
    Why.RESET: "reset by peer",
    Why.KEEPALIVE: "keepalive",
    Why.NO_ANSWER: "no answer",
    Why.FIN_UNANSWERED: "FIN unanswered",
    Why.REFUSED: "refused",
    Why.SYN_UNANSWERED: "SYN unanswered",
    Why.CONNECT_FAILED: "connect() failed",
    Why.GIVEN_UP: "connect() given up",
}
_ARROW: Final = {Opened.OUT: "->", Opened.IN: "<-", None: "--"}
_WIDE: Final = 120


class CloseTextLines:
    """Writes one line for each connection; `width` is the terminal's, None where there is none."""

    def __init__(self, out: TextIO, width: int | None) -> None:
        self._out = out
        self._width = width
        self._narrow = width is not None and width < _WIDE
        self._second = 0
        self._clock = ""

    def head(self) -> None:
        """Write what the columns are."""
        if self._narrow:
            head = (
                f"{'TIME':8} {'FIRST':5} {'HOW':7} {'PROCESS':10} {'PORT, REMOTE':29}"
                f" {'LIFE':>6} WHY"
            )
        else:
            head = (
                f"{'TIME':12} {'FIRST':5} {'HOW':8} {'PROCESS':22} {'LOCAL':21}    {'REMOTE':21}"
                f" {'LIFE':>8} {'IDLE':>8} {'CLOSEWAIT':>9} {'SENT':>9} {'RECEIVED':>9} WHY"
            )
        self._write(head)

    def close(self, close: Close) -> None:
        """Write one connection's end."""
        self._write(self._narrow_line(close) if self._narrow else self._wide_line(close))

    def summary(self, outcome: TraceOutcome) -> None:
        """Write the summary, and behind it what was found."""
        for line in summary_lines(outcome):
            self._write(line)
        if outcome.findings:
            self._write("")
            for line, _ in finding_lines(outcome.findings, Look(self._width)):
                self._write(line)
            self._write(f"   why: twdiag explain {outcome.findings[0].rule}")

    def _write(self, line: str) -> None:
        self._out.write(f"{line}\n")

    def flush(self) -> None:
        """Let the lines be seen."""
        self._out.flush()

    def _wide_line(self, close: Close) -> str:
        local = endpoint(close.local, close.local_port)
        remote = _remote(close)
        return (
            f"{self._time(close.ended_at)}.{int(close.ended_at % 1 * 1000):03d}"
            f" {_first(close):5} {_how(close):8} {_process(close.closer):22}"
            f" {local:21} {_ARROW[close.opened]} {remote:21}"
            f" {_lived(close):>8} {_age(close, close.idle):>8} {short_age(close.close_wait):>9}"
            f" {_bytes(close.sent):>9} {_bytes(close.received):>9} {why_of(close)}"
        ).rstrip()

    def _narrow_line(self, close: Close) -> str:
        ends = f":{close.local_port} {_ARROW[close.opened]} {_remote(close)}"
        name = "-" if close.closer is None else visible(close.closer.name or "?")
        return (
            f"{self._time(close.ended_at)} {_first(close):5} {_how(close).replace(' ', ''):7}"
            f" {_cut(name, 10):10} {ends:29} {_lived(close):>6} {why_of(close)}"
        ).rstrip()

    def _time(self, moment: float) -> str:
        if int(moment) != self._second or not self._clock:
            self._second = int(moment)
            self._clock = time.strftime("%H:%M:%S", time.localtime(self._second))
        return self._clock


def why_of(close: Close) -> str:
    """Return why a connection ended, in a few words; "-" where that is not known."""
    words = "-" if close.why is None else _WHY[close.why]
    if close.dying and close.why not in (Why.EXIT, Why.KILLED):
        words += " at exit"
    return f"{words}, descriptor still open" if close.open else words


def _first(close: Close) -> str:
    if close.first is None:
        return "-"
    return close.first.value


def _how(close: Close) -> str:
    return "-" if close.how is None else close.how.value


def _process(closer: Closer | None) -> str:
    if closer is None:
        return "-"
    number = closer.pid if closer.pid is not None else closer.tid
    return f"{_cut(visible(closer.name or '?'), 15)}/{number}"


def _remote(close: Close) -> str:
    return endpoint(close.remote, close.remote_port) if close.remote_port else f"{close.remote}:?"


def _lived(close: Close) -> str:
    if close.older and close.lived is not None:
        return f">{_age(close, close.lived)}" if close.lived else "-"
    return _age(close, close.lived)


def _age(close: Close, seconds: float | None) -> str:
    """Return an age; less than a tick is not told as no time at all."""
    guessed = seconds is not None and not seconds and not close.observed
    return f"<{short_age(TICK)}" if guessed else short_age(seconds)


def _bytes(number: int | None) -> str:
    if number is None:
        return "-"
    if number < 1_000_000:
        return f"{number:,}"
    size = number / 1e6
    for unit in ("MB", "GB", "TB", "PB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.0f} EB"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"
