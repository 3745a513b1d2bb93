"""The whole report: every finding with its evidence, reasons and advice, and what was not seen."""

from __future__ import annotations

import shlex
import textwrap
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import close_chart
from twdiag.model import facts
from twdiag.model.findings import (
    DestinationSubject,
    ListenerSubject,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.model.snapshot import HOST_NETNS
from twdiag.render.pieces import (
    STYLES,
    Detail,
    closers,
    evidence_words,
    nothing_wrong,
    number_or_unknown,
    sparkline,
)
from twdiag.tcp.roles import Role
from twdiag.wording import count, endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twdiag.model.findings import Advice, Finding, Report
    from twdiag.render.pieces import Line, Look
    from twdiag.tcp import State

_LABEL: Final = 10
_DRAWING_WIDTH: Final = 78


def full(report: Report, look: Look) -> Iterator[Line]:
    """Yield the lines of a report, or one for each finding where it is to be brief."""
    return _Writer(look).report(report)


class _Writer:
    """Lays a report out as lines."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.drawn: set[State] = set()
        self.drawn_history: object = None
        self.rules: Counter[tuple[str, str]] = Counter()

    def report(self, report: Report) -> Iterator[Line]:
        if self.look.detail is Detail.BRIEF:
            yield from self._verdict(report)
            for finding in report.findings:
                yield from self._one_line(finding)
            return
        self.rules.update((finding.rule, finding.netns) for finding in report.findings)
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
                f"{word}: {text or nothing_wrong(report)}", style=STYLES[report.status]
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
        yield from self._wrap(f"{word}: {', '.join(numbers)}", style=STYLES[report.status])

    def _one_line(self, finding: Finding) -> Iterator[Line]:
        where = "" if finding.netns == HOST_NETNS else f"in {visible(finding.netns)}: "
        text = (
            f"{finding.severity.label.upper():8} {finding.rule}: {where}{visible(finding.summary)}"
        )
        yield from self._wrap(text, after=" " * 9, style=STYLES[finding.severity])

    def _finding(self, finding: Finding) -> Iterator[Line]:
        yield from self._one_line(finding)
        yield "", ""
        yield from self._seen(finding)
        yield from self._where(finding)
        for number, line in enumerate(finding.waits):
            yield from self._labelled("" if number else "Waits", visible(line))
        for number, step in enumerate(finding.steps):
            yield f"  {'' if number else 'Now':{_LABEL}}{visible(step.run)}", "bold"
            needs = f" ({step.tool} has to be installed)" if step.tool else ""
            effect = f" {step.effect}" if step.effect else ""
            yield from self._labelled("", f"   {visible(step.look + effect)}{needs}", hang=3)
        yield from self._labelled("Why", finding.why)
        yield from self._advice(finding.advice)
        for number, word in enumerate(finding.do_not):
            yield from self._labelled("Do not" if not number else "", f"- {_do_not(word)}")
        if finding.has_rows:
            only = self.rules[finding.rule, finding.netns] > 1
            yield f"  {'Rows':{_LABEL}}{visible(_rows_command(finding, only))}", ""
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
                f"{waiting:,} of {number_or_unknown(numbers.get(facts.TIME_WAIT_LIMIT))}: "
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


def _rows_command(finding: Finding, only: bool) -> str:
    """Return the command that lists the rows behind a finding; `only` where its rule has others."""
    words = ["twdiag", "sockets", "--rule", finding.rule]
    if finding.netns != HOST_NETNS:
        words += ["--netns", finding.netns]
    if only:
        words += _narrowed(finding)
    return shlex.join(words)


def _narrowed(finding: Finding) -> list[str]:
    """Return the options that tell the rows of a finding from those of others of its rule."""
    subject = finding.subject
    if isinstance(subject, DestinationSubject):
        return ["--peer", endpoint(subject.address, subject.port)]
    if isinstance(subject, (ListenerSubject, PortSubject)):
        return ["--port", str(subject.port)]
    if isinstance(subject, ProcessSubject) and subject.pid is not None:
        # Workers of one program are told of together, by the name that they share.
        return ["--process", subject.name if len(finding.pids) > 1 else str(subject.pid)]
    return []
