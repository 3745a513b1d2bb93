"""Write ended connections and their summary as lines of JSON."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from twdiag.analysis.close_summary import MARKS
from twdiag.render.json import finding_json
from twdiag.wording import visible

if TYPE_CHECKING:
    from typing import TextIO

    from twdiag.analysis.close_summary import CloseTally, TraceOutcome
    from twdiag.model.closes import Close


class CloseJsonLines:
    """Writes one JSON object for each connection, and one for the summary."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

    def head(self) -> None:
        """Write nothing: JSON names its values itself."""

    def close(self, close: Close) -> None:
        """Write one connection's end."""
        self._out.write(self._encode(close_json(close)) + "\n")

    def summary(self, outcome: TraceOutcome) -> None:
        """Write the summary."""
        self._out.write(self._encode(summary_json(outcome)) + "\n")

    def flush(self) -> None:
        """Let the lines be seen."""
        self._out.flush()


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


def summary_json(outcome: TraceOutcome) -> dict[str, Any]:
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


def _tally_json(tally: CloseTally) -> dict[str, Any]:
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
