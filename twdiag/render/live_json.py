"""The frames of `watch` as JSON, one object for each line, schema "twdiag-watch/1"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from twdiag.render.json import timestamp
from twdiag.render.json import to_json as report_json

if TYPE_CHECKING:
    from typing import TextIO

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.closers import ClosingEnd, ClosingProcess
    from twdiag.analysis.leaks import Leak
    from twdiag.engine.frames import Entry, Frame, PerSecond

SCHEMA: Final = "twdiag-watch/1"


def render_line(frame: Frame, out: TextIO) -> None:
    """Write a frame as one line of ASCII JSON."""
    json.dump(to_json(frame), out, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    out.write("\n")


def to_json(frame: Frame) -> dict[str, Any]:
    """Return a frame as plain values; what is gone is left out."""
    report, following, cost = report_json(frame.report), frame.following, frame.cost
    return {
        "schema": SCHEMA,
        "version": report["version"],
        "taken_at": timestamp(frame.report.taken_at),
        "host": report["host"],
        "netns": report["netns"],
        "status": report["status"],
        "interval_s": round(cost.interval, 3),
        "slowed": cost.slowed,
        "share_of_core": None if cost.share is None else round(cost.share, 4),
        "states": report["states"],
        "time_wait": {
            "now": frame.time_wait,
            "limit": frame.limit,
            "settles_at": frame.settles_at,
            "closes_per_second": _rate(frame.closing),
            "closes_per_second_history": report["closes_per_second_history"],
        },
        "close_wait_grown": frame.close_wait_grown,
        "grown_in_s": round(frame.seconds, 1),
        "per_second": {name: _rate(rate) for name, rate in frame.rates.items()},
        "findings": report["findings"],
        "budgets": [_budget(entry.row) for entry in frame.budgets if _is_there(entry)],
        "close_wait": [_leak(entry.row) for entry in frame.leaks if _is_there(entry)],
        "closers": [_closer(entry.row) for entry in frame.closers if _is_there(entry)],
        "processes": [_process(entry.row) for entry in frame.processes if _is_there(entry)],
        "following": {
            "source": following.source or None,
            "note": following.sentence or None,
            "share_of_time": round(following.share, 4) if following.source else None,
            "lost": following.lost,
        },
        "skipped": report["skipped"],
        "gaps": report["gaps"],
    }


def _is_there(entry: Entry[Any]) -> bool:
    return entry.gone_at is None


def _rate(rate: PerSecond) -> dict[str, float | None]:
    return {"now": _rounded(rate.now), "minute": _rounded(rate.minute)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _budget(row: Budget) -> dict[str, Any]:
    return {
        "kind": row.kind,
        "name": row.name,
        "port": row.port,
        "used": row.used,
        "size": row.size,
        "used_ratio": round(row.share, 4),
        "reusable": row.reusable if row.kind == "ports" else None,
        "growth_per_second": _rounded(row.growth),
        "seconds_left": _rounded(row.full_in),
    }


def _leak(row: Leak) -> dict[str, Any]:
    return {
        "name": row.name,
        "user": row.user or None,
        "pids": list(row.pids),
        "sockets": row.sockets,
        "grown": row.grown,
        "grown_in_s": None if row.grown is None else round(row.seconds, 1),
        "oldest_at_least_s": _rounded(row.age),
        "why": row.why,
    }


def _closer(row: ClosingEnd) -> dict[str, Any]:
    firsts = row.firsts
    return {
        "kind": row.kind,
        "name": row.name,
        "port": row.port,
        "processes": list(row.processes[::2]),
        "time_wait": row.time_wait,
        "closes_per_second": {
            "now": None if row.now is None else round(row.now.value, 3),
            "at_least": row.now is not None and row.now.at_least,
            "minute": _rounded(row.minute),
        },
        "settles_at": row.settles_at,
        "closed_first_per_second": None
        if firsts is None
        else {
            "here": round(firsts.here, 3),
            "peer": round(firsts.peer, 3),
            "unknown": round(firsts.unknown, 3),
            "reset": round(firsts.resets, 3),
        },
    }


def _process(row: ClosingProcess) -> dict[str, Any]:
    return {
        "name": row.name,
        "pids": list(row.pids),
        "end": row.end,
        "port": row.port,
        "first_per_second": round(row.first, 3),
        "after_peer_per_second": round(row.after, 3),
        "reset_per_second": round(row.resets, 3),
    }
