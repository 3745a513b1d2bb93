"""What the ways to write a report for people share: how to write, bars, facts in words."""

from __future__ import annotations

import enum
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import close_chart
from twdiag.model import facts
from twdiag.model.findings import Severity
from twdiag.model.snapshot import HOST_NETNS, LEFT_OUT
from twdiag.tcp import State
from twdiag.wording import between, command_in, count, duration, pause, rate, share, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from twdiag.model.findings import Finding, Place, Report, Value
    from twdiag.model.snapshot import Gap

STYLES: Final = {
    Severity.OK: "bold green",
    Severity.NOTICE: "bold cyan",
    Severity.WARNING: "bold yellow",
    Severity.CRITICAL: "bold red",
}
_FIRST_COLUMN: Final = re.compile(r" *\S+(?: \S+)*? {2,}")
_BARS: Final = "·▁▂▃▄▅▆▇█"
_BARS_ASCII: Final = ".:-=+*#%@"


_DRAWING: Final = (58, 78)
"""The least columns and the most that a drawing of the handshake takes; it is indented by two."""


class Detail(enum.Enum):
    """How much of each finding is written."""

    BRIEF = "brief"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Look:
    """How text is written: `width` None never wraps or cuts (a pipe); `unicode` False is ASCII.

    `height` is the number of lines that a screen holds, None where nothing has to fit.
    """

    width: int | None = None
    color: bool = False
    unicode: bool = True
    detail: Detail = Detail.NORMAL
    height: int | None = None


StyledLine = tuple[str, str]
"""(text, style); the style is rich's and is dropped without colour."""


def drawing(place: Place, look: Look) -> list[StyledLine]:
    """Return the handshake with a place marked, nothing where it does not fit.

    An open connection has no place in it: all of the close would stand there as yet to come.
    """
    least, most = _DRAWING
    room = most if look.width is None else min(most, look.width - 2)
    if room < least or place.state is State.ESTABLISHED:
        return []
    chart = close_chart(place.state, move=place.next, ascii=not look.unicode, width=room)
    return [(f"  {line}", "") for line in chart]


def write_lines(
    lines: Iterator[StyledLine] | Sequence[StyledLine], out: TextIO, look: Look
) -> None:
    """Write styled lines, in colour and beyond ASCII only where asked."""
    if not look.unicode:
        lines = [
            (text.encode("ascii", "backslashreplace").decode(), style) for text, style in lines
        ]
    if not look.color:
        for text, _ in lines:
            out.write(text.rstrip() + "\n")
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(
        file=out,
        force_terminal=True,
        width=look.width or 10_000,
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=True,
    )
    for text, style in lines:
        console.print(Text(text.rstrip(), style=style))


def fitted(line: str, width: int | None) -> list[str]:
    """Return a line in so many columns, its rest below the text behind its first column.

    A command at its end stays whole, on a line of its own.  None is as wide as it wants.
    """
    if width is None or len(line) <= width:
        return [line]
    command = command_in(line)
    text = line[: len(line) - len(command)].rstrip()
    column = _FIRST_COLUMN.match(line)
    indent = len(column[0]) if column else len(line) - len(line.lstrip()) + 2
    indent = min(indent, width // 3)
    wrapped = textwrap.wrap(
        text,
        max(width, 2 * indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [*wrapped, *([f"    {command}"] if command else [])]


def sparkline(values: Sequence[int], *, unicode: bool = True) -> str:
    """Return one character for each value, zero apart from the least bar."""
    bars = _BARS if unicode else _BARS_ASCII
    most = max(values, default=0)
    steps = len(bars) - 1
    return "".join(bars[0] if not v else bars[max(1, round(steps * v / most))] for v in values)


def where(finding: Finding) -> str:
    """Return where a finding is, "" in this process's own namespace and no container.

    A sidecar shares the network of another container: both are named.
    """
    container = finding.container.label if finding.container else ""
    netns = "" if finding.netns == HOST_NETNS else finding.netns
    if not container or container == netns:
        return netns
    return f"{container}, network of {netns}" if netns else container


AS_SEEN: Final = ", as far as can be seen"
"""What follows "nothing wrong" where not all could be seen."""


def is_blind(report: Report) -> bool:
    """Return whether something could not be seen, or not be judged for that."""
    return bool(report.skipped) or any(gap.what not in LEFT_OUT for gap in report.gaps)


def some_rules(report: Report) -> str:
    """Return "only close-wait-leak ran", "2 rules ignored" or ""."""
    return ", ".join(gap.short for gap in report.gaps if gap.what in LEFT_OUT)


def unseen_label(gap: Gap) -> str:
    """Return what stands before a gap: that somebody wanted it so is no lack of sight."""
    return "Rules" if gap.what in LEFT_OUT else "Not seen"


def unseen_words(gap: Gap) -> str:
    """Return a gap with what would let it be seen, to be shown as it is."""
    return visible(f"{gap.why} ({gap.how})" if gap.how else gap.why)


def nothing_wrong(report: Report) -> str:
    """Return what was looked at and found in order."""
    numbers = report.facts
    unsure = AS_SEEN if is_blind(report) else ""
    chosen = f" ({some})" if (some := some_rules(report)) else ""
    head = f"nothing wrong{unsure}{chosen}. "
    if report.namespaces:
        head = f"nothing wrong in {len(report.namespaces)} namespaces{unsure}{chosen}. Here: "
    text = (
        f"{head}{count(_int(numbers[facts.SOCKETS]), 'socket')}, "
        f"{numbers[facts.CLOSE_WAIT]:,} in CLOSE_WAIT, {numbers[facts.TIME_WAIT]:,} in TIME_WAIT "
        f"(room for {number_or_unknown(numbers.get(facts.TIME_WAIT_LIMIT))})"
    )
    if numbers.get(facts.BUSIEST):
        used, ports = numbers[facts.BUSIEST_USED], numbers[facts.PORTS]
        text += (
            f"; the busiest destination, {numbers[facts.BUSIEST]}, uses {used:,} of {ports:,} ports"
        )
    return text + "."


def closers(numbers: Mapping[str, Value]) -> str:
    """Return who closed the TIME_WAITs first: "servers here 151, clients here 367"."""
    parts = [
        f"servers here {numbers.get(facts.BY_SERVERS) or 0:,}",
        f"clients here {numbers.get(facts.BY_CLIENTS) or 0:,}",
    ]
    unknown = numbers.get(facts.BY_UNKNOWN)
    if unknown:
        parts.append(f"a server that is gone, or unknown, {unknown:,}")
    return ", ".join(parts)


def _int(value: Value) -> int:
    return value if isinstance(value, int) else 0


def number_or_unknown(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"


def evidence_words(evidence: Mapping[str, Value]) -> list[str]:
    """Return evidence in words, each fact behind its label."""
    known, words = facts.catalogue(), []
    for key, value in evidence.items():
        if key == facts.AGE_MAX and evidence.get(facts.AGE_MIN) is not None:
            continue  # the two ages are told as one
        fact = known.get(key) or facts.Fact(key, "")
        if key == facts.AGE_MIN and value is not None:
            words.append(between(_float(value), _float(evidence.get(facts.AGE_MAX))))
        elif text := _value(fact, value):
            words.append(f"{fact.label} {text}")
    return words


def _float(value: Value) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _value(fact: facts.Fact, value: Value) -> str:
    """Return a value in words, nothing where it was not seen or is a history."""
    if value is None or value == [] or fact.unit is facts.Unit.HISTORY:
        return ""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, str):
        return value
    if fact.unit is facts.Unit.RATIO:
        return share(value)
    if fact.unit is facts.Unit.PER_SECOND:
        return rate(value)
    if fact.unit is facts.Unit.SECONDS:
        return pause(value) if isinstance(value, float) else duration(value)
    return f"{value:,}"
