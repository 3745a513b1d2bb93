"""Write a report for people: verdict first, then findings, then what was and was not seen.

The report is laid out as styled lines; only printing them in colour needs rich, so a report into a
pipe is plain and starts fast.
"""

from __future__ import annotations

import enum
import textwrap
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import close_chart
from twdiag.model import facts
from twdiag.model.findings import Severity
from twdiag.tcp import Role
from twdiag.wording import between, count, duration, rate, share, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from twdiag.model.findings import Advice, Finding, Report, Value
    from twdiag.tcp import State

_LABEL: Final = 10
_DRAWING_WIDTH: Final = 78
_BARS: Final = "·▁▂▃▄▅▆▇█"
_BARS_ASCII: Final = ".:-=+*#%@"
_STYLES: Final = {
    Severity.OK: "bold green",
    Severity.NOTICE: "bold cyan",
    Severity.WARNING: "bold yellow",
    Severity.CRITICAL: "bold red",
}


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


Line = tuple[str, str]
"""(text, style); the style is rich's and is dropped without colour."""


def render_text(report: Report, out: TextIO, look: Look) -> None:
    """Write the report; every character of it that came from outside is inert."""
    if look.detail is Detail.NORMAL:
        from twdiag.render.screen import screen

        write_lines(screen(report, look), out, look)
    else:
        write_lines(_Writer(look).report(report), out, look)


def write_lines(lines: Iterator[Line] | Sequence[Line], out: TextIO, look: Look) -> None:
    """Write styled lines, in colour only where asked."""
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


def sparkline(values: Sequence[int], *, unicode: bool = True) -> str:
    """Return one character for each value, zero apart from the least bar."""
    bars = _BARS if unicode else _BARS_ASCII
    most = max(values, default=0)
    steps = len(bars) - 1
    return "".join(bars[0] if not v else bars[max(1, round(steps * v / most))] for v in values)


class _Writer:
    """Lays a report out as lines."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.drawn: set[State] = set()
        self.drawn_history: object = None

    def report(self, report: Report) -> Iterator[Line]:
        if self.look.detail is Detail.BRIEF:
            yield from self._verdict(report)
            for finding in report.findings:
                yield from self._one_line(finding)
            return
        yield from self._header(report)
        yield from self._verdict(report)
        for finding in report.findings:
            yield "", ""
            yield from self._finding(finding)
        yield "", ""
        yield from self._glance(report)
        yield from self._unseen(report)

    def _header(self, report: Report) -> Iterator[Line]:
        moment = datetime.fromtimestamp(report.taken_at, tz=timezone.utc)
        where = visible(report.host.name)
        if report.netns != "host":
            where += f", namespace {visible(report.netns)}"
        yield from self._wrap(
            f"twdiag {report.version}: {where}, Linux {visible(report.host.kernel)}, "
            f"{moment:%Y-%m-%d %H:%M:%S} UTC, read by {report.source}",
            style="dim",
        )

    def _verdict(self, report: Report) -> Iterator[Line]:
        word = report.status.label.upper()
        if not report.findings:
            text = _nothing_shown(report) if report.facts.get(facts.HIDDEN) else ""
            yield from self._wrap(
                f"{word}: {text or nothing_wrong(report)}", style=_STYLES[report.status]
            )
            return
        numbers = [
            count(sum(1 for f in report.findings if f.severity is severity), name, many)
            for severity, name, many in (
                (Severity.CRITICAL, "critical", "critical"),
                (Severity.WARNING, "warning", ""),
                (Severity.NOTICE, "notice", ""),
            )
            if any(f.severity is severity for f in report.findings)
        ]
        yield from self._wrap(f"{word}: {', '.join(numbers)}", style=_STYLES[report.status])

    def _one_line(self, finding: Finding) -> Iterator[Line]:
        text = f"{finding.severity.label.upper():8} {finding.rule}: {visible(finding.summary)}"
        yield from self._wrap(text, after=" " * 9, style=_STYLES[finding.severity])

    def _finding(self, finding: Finding) -> Iterator[Line]:
        yield from self._one_line(finding)
        yield "", ""
        yield from self._seen(finding)
        yield from self._where(finding)
        yield from self._labelled("Why", finding.why)
        yield from self._advice(finding.advice)
        for number, word in enumerate(finding.do_not):
            yield from self._labelled("Do not" if not number else "", f"- {_do_not(word)}")
        yield from self._labelled("More", f"twdiag explain {finding.rule}")
        yield from self._drawing(finding)

    def _seen(self, finding: Finding) -> Iterator[Line]:
        words = evidence_words(finding.evidence)
        sure = "" if finding.confidence.value == "observed" else " (inferred)"
        yield from self._labelled("Seen", visible(", ".join(words) + sure))
        history = finding.evidence.get(facts.HISTORY)
        if isinstance(history, list) and any(history):
            self.drawn_history = history
            yield from self._history([int(value) for value in history])

    def _history(self, values: Sequence[int]) -> Iterator[Line]:
        most = f" max {max(values):,}/s"
        room = 200 if self.look.width is None else max(10, self.look.width - _LABEL - 2)
        step = -(-len(values) // room)
        sums = [sum(values[at : at + step]) for at in range(0, len(values), step)]
        line = sparkline(sums, unicode=self.look.unicode)
        yield f"  {'Closes':{_LABEL}}{line}{most if len(line) + len(most) <= room else ''}", ""
        yield f"  {'':{_LABEL}}{'60 s ago':<{len(line) - 3}}now", "dim"

    def _where(self, finding: Finding) -> Iterator[Line]:
        place = finding.place
        if place is None:
            return
        role = "" if place.role is Role.NONE else f", {place.role.value}"
        yield from self._labelled("Where", f"{place.state.rfc}{role}; next: {place.next}")

    def _drawing(self, finding: Finding) -> Iterator[Line]:
        """Yield the handshake with the place marked, once for each state and where it fits."""
        narrow = self.look.width is not None and self.look.width < _DRAWING_WIDTH
        if finding.place is None or finding.place.state in self.drawn or narrow:
            return
        state = finding.place.state
        self.drawn.add(state)
        yield "", ""
        move, plain = finding.place.next, not self.look.unicode
        chart = close_chart(state, move=move, ascii=plain, width=_DRAWING_WIDTH)
        yield from ((f"  {line}", "") for line in chart)

    def _advice(self, advice: Sequence[Advice]) -> Iterator[Line]:
        for number, item in enumerate(advice, start=1):
            label = "Do" if number == 1 else ""
            yield from self._labelled(label, f"{number}. {visible(item.do)}", bold=True, hang=3)
            for name, text in (("", item.how), ("cost: ", item.cost), ("check: ", item.verify)):
                if text:
                    yield from self._labelled("", f"   {name}{visible(text)}", hang=3)

    def _glance(self, report: Report) -> Iterator[Line]:
        states = ", ".join(f"{state.name} {number:,}" for state, number in _by_size(report))
        yield from self._labelled("States", states or "no TCP socket at all")
        numbers = report.facts
        waiting = numbers.get(facts.TIME_WAIT)
        if waiting:
            yield from self._labelled(
                "TIME_WAIT",
                f"{waiting:,} of {_number(numbers.get(facts.TIME_WAIT_LIMIT))}: "
                f"closed first by {closers(numbers)}",
            )
        small = numbers.get(facts.SMALL_DESTINATIONS)
        if small:
            yield from self._labelled(
                "", f"{small:,} sockets to destinations with a few each are not told apart"
            )
        if report.closes and any(report.closes) and list(report.closes) != self.drawn_history:
            yield from self._history(report.closes)

    def _unseen(self, report: Report) -> Iterator[Line]:
        for number, gap in enumerate(report.gaps):
            text = f"{visible(gap.why)} ({visible(gap.how)})" if gap.how else visible(gap.why)
            yield from self._labelled("Not seen" if not number else "", text)
        if report.skipped:
            names = ", ".join(skip.rule for skip in report.skipped)
            yield from self._labelled("Not judged", names)

    def _labelled(
        self, label: str, text: str, *, bold: bool = False, hang: int = 0
    ) -> Iterator[Line]:
        """Yield text behind a label, wrapped beside it."""
        if text.startswith("- "):
            hang = 2
        head = f"  {label:{_LABEL}}" if len(label) < _LABEL else f"  {label} "
        after = " " * (2 + _LABEL + hang)
        yield from self._wrap(text, head, after, style="bold" if bold else "")

    def _wrap(
        self, text: str, before: str = "", after: str = "", style: str = ""
    ) -> Iterator[Line]:
        if self.look.width is None:
            yield before + text, style
            return
        if not self.look.unicode:
            text = text.encode("ascii", "backslashreplace").decode()
        indent = before + text[: len(text) - len(text.lstrip())]
        lines = textwrap.wrap(
            text.lstrip(),
            max(30, self.look.width),
            initial_indent=indent,
            subsequent_indent=after,
            break_on_hyphens=False,
        )
        for line in lines or [before]:
            yield line, style


def _do_not(text: str) -> str:
    """Return the item without the words that its label says already."""
    rest = text.removeprefix("Do not ")
    return rest[:1].lower() + rest[1:] if rest != text else text


def _by_size(report: Report) -> list[tuple[State, int]]:
    return sorted(report.states.items(), key=lambda item: (-item[1], item[0]))


def _nothing_shown(report: Report) -> str:
    hidden, worst = report.facts[facts.HIDDEN], report.facts[facts.HIDDEN_WORST]
    return f"no finding about that; {hidden:,} about other things (the worst: {worst})"


def nothing_wrong(report: Report) -> str:
    """Return what was looked at and found in order."""
    numbers = report.facts
    unsure = " in what could be seen" if report.skipped or report.gaps else ""
    text = (
        f"nothing wrong{unsure}. {count(_int(numbers[facts.SOCKETS]), 'socket')}, "
        f"{numbers[facts.CLOSE_WAIT]:,} in CLOSE_WAIT, {numbers[facts.TIME_WAIT]:,} in TIME_WAIT "
        f"(room for {_number(numbers.get(facts.TIME_WAIT_LIMIT))})"
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


def _number(value: Value) -> str:
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
        return duration(value)
    return f"{value:,}"
