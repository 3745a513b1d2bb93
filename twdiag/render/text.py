"""Write a report for people: verdict first, then findings, then what was and was not seen.

The report is laid out as styled lines; only printing them in colour needs rich, so a report into a
pipe is plain and starts fast.
"""

from __future__ import annotations

import enum
import textwrap
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import close_chart
from twdiag.model.findings import Severity
from twdiag.tcp import Role
from twdiag.wording import count, duration, rate, share, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
_MOST_OF_A_RULE: Final = 5
_SEEN_IN_NORMAL: Final = 8
_LABELS: Final = {
    "time_wait": "TIME_WAIT",
    "fin_wait1": "FIN_WAIT1",
    "fin_wait2": "FIN_WAIT2",
    "close_wait": "CLOSE_WAIT",
    "syn_sent": "SYN_SENT",
    "established": "ESTABLISHED",
    "recv_q": "Recv-Q",
    "send_q": "Send-Q",
    "fds": "open descriptors",
    "fd_limit": "descriptor limit",
    "age_seconds_min": "youngest at least",
    "age_seconds_max": "oldest at most",
    "peers": "with",
    "used_ratio": "that is",
    "table_ratio": "of the TIME_WAIT table",
    "seconds_to_exhaustion": "full in",
    "closes_per_second": "closes in the minute",
    "recent_closes_per_second": "closes now",
    "projected": "settles at",
    "lower_bound": "a lower bound:",
    "overflows_since_boot": "overflows since boot",
}
_ONLY_IN_FULL: Final = frozenset(
    {
        "uid",
        "fd_ratio",
        "close_wait_fd_ratio",
        "process_count",
        "service_ports",
        "limit",
        "taken_ratio",
        "range_low",
        "range_high",
        "top_clients",
        "sysctl",
    }
)


class Detail(enum.Enum):
    """How much of each finding is written."""

    BRIEF = "brief"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Look:
    """How text is written: `width` None never wraps or cuts (a pipe); `unicode` False is ASCII."""

    width: int | None = None
    color: bool = False
    unicode: bool = True
    detail: Detail = Detail.NORMAL


Line = tuple[str, str]
"""(text, style); the style is rich's and is dropped without colour."""


def render_text(report: Report, out: TextIO, look: Look) -> None:
    """Write the report; every character of it that came from outside is inert."""
    lines = _Writer(look).report(report)
    write_lines(lines, out, look)


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

    def report(self, report: Report) -> Iterator[Line]:
        if self.look.detail is Detail.BRIEF:
            yield from self._verdict(report)
            for finding in report.findings:
                yield from self._one_line(finding)
            return
        yield from self._header(report)
        yield from self._verdict(report)
        compact = report.status > Severity.NOTICE and self.look.detail is not Detail.FULL
        shown: Counter[str] = Counter()
        for finding in report.findings:
            shown[finding.rule] += 1
            if self.look.detail is not Detail.FULL and shown[finding.rule] > _MOST_OF_A_RULE:
                continue
            yield "", ""
            if compact and finding.severity is Severity.NOTICE:
                yield from self._compact(finding)
            else:
                yield from self._finding(finding)
        yield from self._left_out(shown)
        yield "", ""
        yield from self._glance(report)
        yield from self._unseen(report)

    def _left_out(self, shown: Counter[str]) -> Iterator[Line]:
        """Yield how many findings of each rule are not shown, the worst of it being shown."""
        if self.look.detail is Detail.FULL:
            return
        for rule, number in shown.items():
            if number > _MOST_OF_A_RULE:
                text = f"... and {number - _MOST_OF_A_RULE:,} more of {rule} (--full shows all)"
                yield "", ""
                yield from self._wrap(text, style="bold")

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
            text = _nothing_shown(report) if report.facts.get("hidden_findings") else ""
            yield from self._wrap(
                f"{word}: {text or _nothing_wrong(report)}", style=_STYLES[report.status]
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

    def _compact(self, finding: Finding) -> Iterator[Line]:
        yield from self._one_line(finding)
        if finding.advice:
            yield from self._labelled("Do", visible(finding.advice[0].do))
        yield from self._labelled("More", f"twdiag explain {finding.rule}")

    def _seen(self, finding: Finding) -> Iterator[Line]:
        words = [
            f"{_LABELS.get(key, key.replace('_', ' '))} {text}"
            for key, text in ((k, _value(k, v)) for k, v in finding.evidence.items())
            if text and (self.look.detail is Detail.FULL or _matters(key, text))
        ]
        if self.look.detail is not Detail.FULL:
            words = words[:_SEEN_IN_NORMAL]
        sure = "" if finding.confidence.value == "observed" else " (inferred)"
        yield from self._labelled("Seen", visible(", ".join(words) + sure))
        history = finding.evidence.get("closes_per_second_history")
        if isinstance(history, list) and any(history):
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
        facts = report.facts
        waiting = facts.get("time_wait")
        if waiting:
            server, client = facts["time_wait_server_closed"], facts["time_wait_client_closed"]
            yield from self._labelled(
                "TIME_WAIT",
                f"{waiting:,} of {_number(facts.get('time_wait_limit'))}: closed first by servers "
                f"here {server:,}, by clients here {client:,}",
            )
        small = facts.get("sockets_to_small_destinations")
        if small:
            yield from self._labelled(
                "", f"{small:,} sockets to destinations with a few each are not told apart"
            )
        if report.closes and any(report.closes):
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


def _matters(key: str, text: str) -> bool:
    """Return whether a piece of evidence is worth its room in the shorter report."""
    return key not in _ONLY_IN_FULL and text not in ("0", "0.0/s", "0 %")


def _do_not(text: str) -> str:
    """Return the item without the words that its label says already."""
    rest = text.removeprefix("Do not ")
    return rest[:1].lower() + rest[1:] if rest != text else text


def _by_size(report: Report) -> list[tuple[State, int]]:
    return sorted(report.states.items(), key=lambda item: (-item[1], item[0]))


def _nothing_shown(report: Report) -> str:
    hidden, worst = report.facts["hidden_findings"], report.facts["hidden_worst"]
    return f"no finding about that; {hidden:,} about other things (the worst: {worst})"


def _nothing_wrong(report: Report) -> str:
    facts = report.facts
    unsure = " in what could be seen" if report.skipped or report.gaps else ""
    text = (
        f"nothing wrong{unsure}. {count(int(facts['sockets'] or 0), 'socket')}, "  # type: ignore[arg-type]
        f"{facts['close_wait']:,} in CLOSE_WAIT, {facts['time_wait']:,} in TIME_WAIT "
        f"(room for {_number(facts.get('time_wait_limit'))})"
    )
    if facts.get("busiest_destination"):
        used, ports = facts["busiest_destination_used"], facts["ports"]
        text += (
            f"; the busiest destination, {facts['busiest_destination']}, uses {used:,} of "
            f"{ports:,} ports"
        )
    return text + "."


def _number(value: Value) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"


def _value(key: str, value: Value) -> str:
    """Return a piece of evidence in words, nothing where it was not seen or is a history."""
    if value is None or value == [] or (isinstance(value, list) and not isinstance(value[0], str)):
        return ""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, str):
        return value
    if key.endswith("ratio"):
        return share(value)
    if "per_second" in key:
        return rate(value)
    if "seconds" in key:
        return duration(value)
    return f"{value:,}"
