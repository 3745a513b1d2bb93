"""Write what `twdiag doctor` found; the JSON has no names and no addresses, for bug reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from twdiag.render.pieces import fitted
from twdiag.wording import count, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from twdiag.engine.doctor import Check, Health, Reading
    from twdiag.tcp import State

SCHEMA: Final = "twdiag-doctor/1"
_TITLES: Final = {"kernel": "What the kernel shows", "rights": "What this user may"}
_MARKS: Final = {True: "yes", False: "no", None: "?"}


def render_text(health: Health, out: TextIO, width: int | None = None) -> None:
    """Write it for people, in so many columns."""
    for line in _lines(health):
        for part in fitted(line, width):
            out.write(part.rstrip() + "\n")


def headline(health: Health) -> str:
    """Return the verdict in one sentence."""
    could = [reading.reader for reading in health.readings if reading.states is not None]
    wrong = [reading.reader for reading in health.readings if reading.differs]
    broken = [reading.reader for reading in health.readings if reading.broken]
    if wrong:
        return f"The readers disagree: {' and '.join(wrong)} against {could[0]}"
    if broken:
        return f"A reader is broken: {', '.join(broken)}"
    if not could:
        return "No reader of sockets works here"
    if len(could) == 1:
        return f"Only {could[0]} can read sockets here: nothing to compare it with"
    alike = f"{', '.join(could)} count the same sockets"
    return f"All is well: {alike}" if health.netlink_shows else f"Netlink shows no socket; {alike}"


def _lines(health: Health) -> Iterator[str]:
    yield headline(health)
    yield f"twdiag {health.version}, Python {health.python}, Linux {visible(health.kernel)}"
    for group, title in _TITLES.items():
        yield ""
        yield f" {title}"
        for check in health.checks:
            if check.group == group:
                yield from _check(check)
    readable, all_of_them = health.processes
    yield f"  -    descriptors of {readable} of {count(all_of_them, 'process', 'processes')}"
    spaces = "unknown" if health.namespaces is None else str(health.namespaces)
    yield f"  -    network namespaces found: {spaces}"
    yield ""
    yield " What each reader counts"
    for reading in health.readings:
        yield f"  {reading.reader:10}{_counts(reading)}"
    yield ""
    yield " Timers"
    left = health.time_wait_seconds
    hertz = health.hertz
    yield f"  HZ                 {'not observed: too few timers' if hertz is None else hertz}"
    longest = "not observed: none is here" if left is None else f"{left:.1f} s left"
    yield f"  longest TIME_WAIT  {longest}"


def _check(check: Check) -> Iterator[str]:
    yield f"  {_MARKS[check.works]:5}{check.what}"
    if check.works is None:
        yield "         could not be tried: no socket is open, no port is free, or /proc is silent"
    if check.works is False:
        yield f"         not seen: {check.costs}"
        yield f"         to get it: {check.how}"


def _counts(reading: Reading) -> str:
    if reading.states is None:
        return f"cannot read: {visible(reading.why)}"
    counted = {state: number for state, number in sorted(reading.states.items()) if number}
    words = [f"{state.name} {number}" for state, number in counted.items()]
    wrong = ", ".join(state.name for state in reading.differs)
    return (", ".join(words) or "no socket") + (f"  <- differs: {wrong}" if wrong else "")


def render_json(health: Health, out: TextIO) -> None:
    """Write it as indented ASCII JSON, schema twdiag-doctor/1."""
    json.dump(to_json(health), out, indent=2, ensure_ascii=True, allow_nan=False)
    out.write("\n")


def to_json(health: Health) -> dict[str, Any]:
    """Return it as plain values."""
    return {
        "schema": SCHEMA,
        "version": health.version,
        "python": health.python,
        "kernel": health.kernel,
        "machine": health.machine,
        "libraries": dict(health.libraries),
        "agree": health.agree,
        "checks": {check.key: check.works for check in health.checks},
        "readers": {reading.reader: _reading(reading) for reading in health.readings},
        "processes": {"readable": health.processes[0], "all": health.processes[1]},
        "namespaces": health.namespaces,
        "hertz": health.hertz,
        "longest_time_wait_seconds": health.time_wait_seconds,
    }


def _reading(reading: Reading) -> dict[str, Any]:
    return {
        "why": reading.why,
        "broken": reading.broken,
        "states": None if reading.states is None else _named(reading.states),
        "differs": [state.name for state in reading.differs],
    }


def _named(states: Mapping[State, int]) -> dict[str, int]:
    return {state.name: number for state, number in sorted(states.items()) if number}
