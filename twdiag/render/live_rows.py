"""The rows of the live screen as cells of a table, the same for a terminal and in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.wording import duration, share, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twdiag.analysis.budgets import Budget
    from twdiag.analysis.closers import ClosingEnd, ClosingProcess
    from twdiag.analysis.leaks import Leak
    from twdiag.engine.frames import Entry, Frame
    from twdiag.model.findings import Finding

UNKNOWN: Final = "-"


class Column(NamedTuple):
    """A column: its head, its cells, and its rank; where there is no room, the last rank goes."""

    head: str
    width: int
    rank: int = 0


HEADS: Final[Mapping[str, str]] = {
    "findings": "FINDINGS",
    "budgets": "BUDGETS",
    "leaks": "CLOSE_WAIT BY PROGRAM",
    "closers": "WHOSE CONNECTIONS END",
    "processes": "WHO CLOSES",
}
SINGULAR: Final[Mapping[str, str]] = {
    "findings": "finding",
    "budgets": "budget",
    "leaks": "waiting",
    "closers": "ends",
    "processes": "process",
}
COLUMNS: Final[Mapping[str, tuple[Column, ...]]] = {
    "findings": (),
    "budgets": (
        Column("USED", 9, 1),
        Column("OF", 9, 3),
        Column("SHARE", 6),
        Column("GROWS", 9, 2),
        Column("FULL IN", 9),
    ),
    "leaks": (
        Column("NOW", 7),
        Column("60 S", 7),
        Column("OLDEST", 9, 2),
        Column("WHY", 24, 3),
    ),
    "closers": (
        Column("TIME_WAIT", 9, 1),
        Column("NOW", 8),
        Column("60 S", 8, 4),
        Column("SETTLES", 9, 5),
        Column("HERE", 7, 2),
        Column("PEER", 7, 2),
        Column("RST", 6, 3),
    ),
    "processes": (
        Column("FIRST", 8),
        Column("AFTER", 8),
        Column("RST", 8),
    ),
}


def name_of(part: str, row: Any) -> str:
    """Return what a row is called, inert."""
    return visible(_NAMES[part](row))


def cells_of(part: str, row: Any) -> tuple[str, ...]:
    """Return the cells of a row, one for each column."""
    return _CELLS[part](row)


def size_of(part: str, row: Any) -> float:
    """Return how large a row is beside the others of its part."""
    if part == "findings":
        return float(row.severity)
    if part == "budgets":
        return float(row.share)
    if part == "leaks":
        return float(row.sockets)
    if part == "closers":
        return float(row.time_wait)
    return float(row.first + row.after + row.resets)


def speed_of(part: str, row: Any) -> float:
    """Return how fast a row goes beside the others of its part; what fills soonest is fastest."""
    if part == "findings":
        return float(row.severity)
    if part == "budgets":
        return 1e9 - row.full_in if row.full_in is not None else row.growth or 0.0
    if part == "leaks":
        return float(row.grown or 0)
    if part == "closers":
        ended = sum(row.firsts[:3]) if row.firsts else 0.0
        return max(row.now.value if row.now else 0.0, ended)
    return float(row.first + row.resets)


def matches(part: str, row: Any, text: str) -> bool:
    """Return whether a row has a text in its name, in any case."""
    words = name_of(part, row)
    if part == "closers":
        words += " " + " ".join(map(visible, row.processes))
    if part == "processes":
        words += " " + " ".join(map(str, row.pids))
    return text.casefold() in words.casefold()


def _finding(row: Finding) -> str:
    severity = row.severity.label.upper()
    return f"{severity:8}  {row.summary} ({row.rule})"


def _budget(row: Budget) -> str:
    return f"{row.name}, {row.reusable:,} reusable" if row.reusable else row.name


def _leak(row: Leak) -> str:
    return row.name


def _closer(row: ClosingEnd) -> str:
    if row.kind == "client":
        return f"client to {row.name}"
    if row.kind == "gone":
        return f"{row.name}, no listener"
    name = f" {row.processes[0]}" if row.processes else ""
    return f"server {row.name}{name}"


def _process(row: ClosingProcess) -> str:
    if len(row.pids) > 1:
        many = "many processes" if len(row.pids) > 8 else f"{len(row.pids)} processes"
        return f"{row.name} ({many}) {row.end}"
    number = f" (pid {row.pids[0]})" if row.pids else ""
    return f"{row.name}{number} {row.end}"


_NAMES: Final[Mapping[str, Callable[[Any], str]]] = {
    "findings": _finding,
    "budgets": _budget,
    "leaks": _leak,
    "closers": _closer,
    "processes": _process,
}


def _budget_cells(row: Budget) -> tuple[str, ...]:
    growth = UNKNOWN if row.growth is None else signed(row.growth)
    full_in = UNKNOWN if row.full_in is None else duration(row.full_in) if row.full_in else "now"
    return f"{row.used:,}", f"{row.size:,}", share(row.share), growth, full_in


def _leak_cells(row: Leak) -> tuple[str, ...]:
    grown = UNKNOWN if row.grown is None else f"{row.grown:+,}" if row.grown else "0"
    age = UNKNOWN if row.age is None else f">{duration(row.age)}"
    return f"{row.sockets:,}", grown, age, row.why


def _closer_cells(row: ClosingEnd) -> tuple[str, ...]:
    now, settles = UNKNOWN, UNKNOWN
    if row.now is not None:
        now = (">" if row.now.at_least else "") + speed(row.now.value)
    if row.settles_at is not None:
        settles = f"{row.settles_at:,}"
    firsts = row.firsts
    ends = (firsts.here, firsts.peer, firsts.resets) if firsts else (None, None, None)
    return f"{row.time_wait:,}", now, speed(row.minute), settles, *map(speed, ends)


def _process_cells(row: ClosingProcess) -> tuple[str, ...]:
    return speed(row.first), speed(row.after), speed(row.resets)


_CELLS: Final[Mapping[str, Callable[[Any], tuple[str, ...]]]] = {
    "findings": lambda _: (),
    "budgets": _budget_cells,
    "leaks": _leak_cells,
    "closers": _closer_cells,
    "processes": _process_cells,
}


def speed(per_second: float | None) -> str:
    """Return a number per second without saying so: "470", "5.7", "0"; "-" for not known."""
    if per_second is None:
        return UNKNOWN
    if per_second >= 10:
        return f"{per_second:,.0f}"
    return f"{per_second:.1f}" if per_second >= 0.05 else "0" if not per_second else "<0.1"


def signed(per_second: float) -> str:
    """Return a growth: "+5.7/s", "-12/s", "0"."""
    if abs(per_second) < 0.05:
        return "0"
    size = f"{abs(per_second):,.0f}" if abs(per_second) >= 10 else f"{abs(per_second):.1f}"
    return f"{'+' if per_second > 0 else '-'}{size}/s"


def gone(entry: Entry[Any], frame: Frame) -> str:
    """Return for how long what a row is about is gone, "" while it is there."""
    return "" if entry.gone_at is None else f"gone {duration(frame.at - entry.gone_at)}"


def columns_that_fit(part: str, width: int, least_name: int) -> Sequence[int]:
    """Return the numbers of the columns for which there is room beside the names."""
    columns = COLUMNS[part]
    kept = list(range(len(columns)))
    while kept and width - sum(columns[n].width + 1 for n in kept) < least_name:
        kept.remove(max(kept, key=lambda n: (columns[n].rank, n)))
    return kept
