"""Write ended connections as lines of text or JSON, and their summary."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from twdiag.analysis.close_summary import MARKS, band_of
from twdiag.model.closes import Opened, Why
from twdiag.render.json import finding_json
from twdiag.render.pieces import Look
from twdiag.render.screen import finding_lines
from twdiag.wording import count, endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from twdiag.analysis.close_summary import Outcome, Spread, Tally
    from twdiag.model.closes import Close, Closer, Losses

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
_MOST_ROWS: Final = 10


class TextLines:
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

    def summary(self, outcome: Outcome) -> None:
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
            f" {_lived(close):>8} {_age(close.idle):>8} {_age(close.close_wait):>9}"
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


class JsonLines:
    """Writes one JSON object for each connection, and one for the summary."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

    def head(self) -> None:
        """Write nothing: JSON names its values itself."""

    def close(self, close: Close) -> None:
        """Write one connection's end."""
        self._out.write(self._encode(close_json(close)) + "\n")

    def summary(self, outcome: Outcome) -> None:
        """Write the summary."""
        self._out.write(self._encode(summary_json(outcome)) + "\n")

    def flush(self) -> None:
        """Let the lines be seen."""
        self._out.flush()


def why_of(close: Close) -> str:
    """Return why a connection ended, in a few words; "-" where that is not known."""
    words = "-" if close.why is None else _WHY[close.why]
    if close.dying and close.why not in (Why.EXIT, Why.KILLED):
        words += " at exit"
    return f"{words}, descriptor still open" if close.open else words


def close_json(close: Close) -> dict[str, Any]:
    """Return one connection's end as JSON has it."""
    closer = close.closer
    return {
        "event": "close",
        "time": _iso(close.ended_at),
        "first": None if close.first is None else close.first.value,
        "how": None if close.how is None else close.how.value,
        "why": None if close.why is None else close.why.value,
        "at_exit": close.dying,
        "opened": None if close.opened is None else close.opened.value,
        "process": None
        if closer is None
        else {
            "pid": closer.pid,
            "tid": closer.tid,
            "name": _inert(closer.name),
            "thread": _inert(closer.thread),
        },
        "local": {"address": close.local, "port": close.local_port},
        "remote": {"address": close.remote, "port": close.remote_port or None},
        "lifetime_s": _seconds(close.lived),
        "lifetime_at_least": close.older,
        "close_wait_s": _seconds(close.close_wait),
        "idle_s": _seconds(close.idle),
        "bytes_sent": close.sent,
        "bytes_received": close.received,
        "rtt_s": _seconds(close.rtt),
        "requests_at_most": close.requests,
        "descriptor_open": close.open,
        "confidence": "observed" if close.observed else "inferred",
    }


def summary_json(outcome: Outcome) -> dict[str, Any]:
    """Return the summary as JSON has it."""
    summary, losses = outcome.summary, outcome.losses
    return {
        "event": "summary",
        "source": outcome.source,
        "began": _iso(outcome.began),
        "seconds": round(outcome.seconds, 3),
        **_tally_json(summary.all),
        "marks_s": list(MARKS),
        "listeners": [_end_json(key) | _tally_json(t) for key, t in summary.listeners],
        "destinations": [_end_json(key) | _tally_json(t) for key, t in summary.destinations],
        "processes": [{"name": _inert(k)} | _tally_json(t) for k, t in summary.processes],
        "findings": [finding_json(finding) for finding in outcome.findings],
        "lost": {"trace_events": losses.trace_events, "announcements": losses.announcements},
        "elsewhere": losses.elsewhere,
        "unplaced": losses.unplaced,
    }


def summary_lines(outcome: Outcome) -> Iterator[str]:
    """Yield the summary as text, within 80 columns but for long addresses."""
    summary = outcome.summary
    total = summary.all
    yield ""
    yield f"{count(total.total, 'connection')} ended in {outcome.seconds:.1f} s"
    yield (
        f"Closed first: here {total.here:,}, the peer {total.peer:,}, both {total.both:,}"
        + (f", not known {total.unknown:,}" if total.unknown else "")
    )
    yield from _ages("Lifetime", total.lived)
    yield from _ages("Idle before the close", total.idle)
    for title, groups in (
        ("By listener", [(_end(key), tally) for key, tally in summary.listeners]),
        ("By destination", [(_end(key), tally) for key, tally in summary.destinations]),
        (
            "By closing process",
            [(_others(key), tally) for key, tally in summary.processes],
        ),
    ):
        yield from _table(title, groups)
    yield from _told_not(outcome.losses)


def _table(title: str, groups: Sequence[tuple[str, Tally]]) -> Iterator[str]:
    if not groups:
        return
    yield ""
    head = f"{'ended':>7} {'here':>7} {'peer':>7} {'both':>4} {'RST':>6} {'timed':>5}"
    yield f"{title:24} {head} {'life':>6} {'idle':>6}"
    for name, tally in groups[:_MOST_ROWS]:
        numbers = (
            f"{tally.total:7,} {tally.here:7,} {tally.peer:7,} {tally.both:4,} {tally.resets:6,}"
            f" {tally.timeouts:5,}"
        )
        yield f"  {name:22} {numbers} {_median(tally.lived):>6} {_median(tally.idle):>6}"
    if len(groups) > _MOST_ROWS:
        rest = sum(tally.total for _, tally in groups[_MOST_ROWS:])
        yield f"  {f'{len(groups) - _MOST_ROWS:,} more':22} {rest:7,}"


def _ages(title: str, spread: Spread) -> Iterator[str]:
    if not spread.total:
        return
    parts = [f"{_band(band)} {number:,}" for band, number in enumerate(spread.counts) if number]
    line = f"{title}:"
    for part in parts:
        if len(line) + len(part) > 76:
            yield line
            line = "   "
        line += f"  {part}"
    yield line


def _told_not(losses: Losses) -> Iterator[str]:
    yield ""
    lost = []
    if losses.trace_events is not None:
        lost.append(count(losses.trace_events, "trace event"))
    if losses.announcements is not None:
        lost.append(count(losses.announcements, "announcement"))
    yield f"Lost: {', '.join(lost) or 'not known, this kernel does not count it'}"
    if losses.trace_events:
        yield "  Where trace events were lost, processes are missing, and who closed is inferred."
    if losses.announcements:
        yield "  Each lost announcement is a socket's end that is not told above."
    if losses.elsewhere:
        yield f"Of other network namespaces, not told: {count(losses.elsewhere, 'connection')}"
    if losses.unplaced:
        more = count(losses.unplaced, "connection")
        yield f"Ended with the descriptor open, in a namespace that is not known: {more}"


def _band(band: int) -> str:
    low, high = band_of(band)
    return f"over {_age(low)}" if high is None else f"to {_age(high)}"


def _median(spread: Spread) -> str:
    middle = spread.median
    if middle is None:
        return "-"
    low, high = middle
    return f">{_age(low)}" if high is None else f"<{_age(high)}"


def _end(key: tuple[str, int] | None) -> str:
    return "others" if key is None else endpoint(key[0], key[1]) if key[1] else f"{key[0]}, port ?"


def _others(key: str | None) -> str:
    return "others" if key is None else visible(key)


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
    return f">{_age(close.lived)}" if close.older and close.lived is not None else _age(close.lived)


def _age(seconds: float | None) -> str:
    """Return an age in at most seven characters: "0.4ms", "15ms", "1.25s", "4m10s", "3.1h"."""
    if seconds is None:
        return "-"
    if seconds < 0.0095:
        return f"{seconds * 1000:.1g}ms" if seconds >= 5e-6 else "0s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.9995:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    if seconds < 99.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    if seconds < 5999.5:
        whole = round(seconds)
        return f"{whole // 60}m{whole % 60:02d}s" if whole % 60 else f"{whole // 60}m"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f}".removesuffix(".0") + "h"
    return f"{seconds / 86_400:.0f}d"


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


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _iso(moment: float) -> str:
    whole = int(moment)
    micro = min(999_999, int((moment - whole) * 1e6))
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micro:06d}Z"


def _inert(text: str | None) -> str | None:
    return None if text is None else visible(text)


def _end_json(key: tuple[str, int] | None) -> dict[str, Any]:
    return {"address": None, "port": None} if key is None else {"address": key[0], "port": key[1]}


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "ended": tally.total,
        "here_first": tally.here,
        "peer_first": tally.peer,
        "both_at_once": tally.both,
        "first_not_known": tally.unknown,
        "resets": tally.resets,
        "timeouts": tally.timeouts,
        "lifetimes": list(tally.lived.counts),
        "idle_times": list(tally.idle.counts),
    }
