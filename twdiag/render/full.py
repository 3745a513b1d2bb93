"""The whole report: every finding with its evidence, reasons and advice, and what was not seen."""

from __future__ import annotations

import textwrap
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from twdiag.model import facts
from twdiag.model.findings import Severity
from twdiag.model.snapshot import HOST_NETNS, LEFT_OUT
from twdiag.render.pieces import (
    STYLES,
    Detail,
    closers,
    drawing,
    evidence_words,
    nothing_wrong,
    number_or_unknown,
    some_rules,
    sparkline,
    unseen_label,
    unseen_words,
    where,
)
from twdiag.tcp.roles import Role
from twdiag.wording import command_in, count, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twdiag.model.findings import Advice, Finding, LookedAt, Report, Step
    from twdiag.render.pieces import Look, StyledLine
    from twdiag.tcp import State

_LABEL: Final = 10
_MOST_NAMESPACES: Final = 20


def full(report: Report, look: Look) -> Iterator[StyledLine]:
    """Yield the lines of a report, or one for each finding where it is to be brief."""
    return _Writer(look).report(report)


class _Writer:
    """Lays a report out as lines."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.drawn: set[State] = set()
        self.drawn_history: object = None
        self.told: set[tuple[Step, ...]] = set()

    def report(self, report: Report) -> Iterator[StyledLine]:
        if self.look.detail is Detail.BRIEF:
            yield from self._verdict(report, some_rules(report))
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

    def _header(self, report: Report) -> Iterator[StyledLine]:
        moment = datetime.fromtimestamp(report.taken_at, tz=timezone.utc)
        host = visible(report.host.name)
        if report.netns != HOST_NETNS:
            host += f", namespace {visible(report.netns)}"
        if report.namespaces:
            host += f", {count(len(report.namespaces), 'namespace')} looked at"
        yield from self._wrap(
            f"twdiag {report.version}: {host}, Linux {visible(report.host.kernel)}, "
            f"{moment:%Y-%m-%d %H:%M:%S} UTC, read by {report.source}",
            style="dim",
        )

    def _verdict(self, report: Report, some: str = "") -> Iterator[StyledLine]:
        """Yield the first line; with `some`, that only some rules ran."""
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
        some = f" ({some})" if some else ""
        yield from self._wrap(f"{word}: {', '.join(numbers)}{some}", style=STYLES[report.status])

    def _one_line(self, finding: Finding) -> Iterator[StyledLine]:
        place = visible(where(finding))
        text = f"{finding.severity.label.upper():8} {finding.rule}: "
        said = not place or finding.tells(where(finding))
        text += f"{'' if said else f'in {place}: '}{visible(finding.summary)}"
        yield from self._wrap(text, after=" " * 9, style=STYLES[finding.severity])

    def _finding(self, finding: Finding) -> Iterator[StyledLine]:
        yield from self._one_line(finding)
        yield "", ""
        yield from self._seen(finding)
        yield from self._where(finding)
        for number, line in enumerate(finding.waits):
            yield from self._labelled("" if number else "Waits", visible(line))
        for number, end in enumerate(finding.other_ends):
            yield from self._labelled("" if number else "Peer", visible(end.text))
        yield from self._steps(finding.steps)
        yield from self._labelled("Why", finding.why)
        yield from self._advice(finding.advice)
        for number, word in enumerate(finding.do_not):
            yield from self._labelled("Do not" if not number else "", f"- {_do_not(word)}")
        if finding.rows_command:
            yield f"  {'Rows':{_LABEL}}{visible(finding.rows_command)}", ""
        yield from self._labelled("More", f"twdiag explain {finding.rule}")
        yield from self._drawing(finding)

    def _steps(self, steps: tuple[Step, ...]) -> Iterator[StyledLine]:
        """Yield the next commands; of findings about one process the first one explains them."""
        if steps in self.told:
            yield f"  {'Now':{_LABEL}}as above: {visible(steps[0].run)}", ""
            return
        if steps:
            self.told.add(steps)
        for number, step in enumerate(steps):
            yield f"  {'' if number else 'Now':{_LABEL}}{visible(step.run)}", "bold"
            yield from self._labelled("", f"   {visible(step.look)}", hang=3)
            for name, text in (("effect", step.effect), ("needs", step.tool)):
                if text:
                    yield from self._labelled("", f"   {name}: {visible(text)}", hang=3)

    def _seen(self, finding: Finding) -> Iterator[StyledLine]:
        words = evidence_words(finding.evidence)
        sure = "" if finding.confidence.value == "observed" else " (inferred)"
        yield from self._labelled("Seen", visible(", ".join(words) + sure))
        history = finding.evidence.get(facts.HISTORY)
        if isinstance(history, list) and any(history) and history != self.drawn_history:
            self.drawn_history = history
            yield from self._history([int(value) for value in history])

    def _history(self, values: Sequence[int]) -> Iterator[StyledLine]:
        most = f"max {max(values):,}/s"
        room = 200 if self.look.width is None else max(10, self.look.width - _LABEL - 2)
        step = -(-len(values) // room)
        sums = [sum(values[at : at + step]) for at in range(0, len(values), step)]
        line = sparkline(sums, unicode=self.look.unicode)
        yield f"  {'Closes':{_LABEL}}{line}", ""
        axis = f"60 s ago{most:^{len(line) - 11}}now"
        yield f"  {'':{_LABEL}}{axis}", "dim"

    def _where(self, finding: Finding) -> Iterator[StyledLine]:
        place = finding.place
        if place is None:
            return
        role = "" if place.role is Role.NONE else f", {place.role.value}"
        yield from self._labelled("Where", f"{place.state.name}{role}; next: {place.next}")

    def _drawing(self, finding: Finding) -> Iterator[StyledLine]:
        """Yield the handshake with the place marked, once for each state and where it fits."""
        place = finding.place
        lines = [] if place is None or place.state in self.drawn else drawing(place, self.look)
        if place is not None and lines:
            self.drawn.add(place.state)
            yield "", ""
            yield from lines

    def _advice(self, advice: Sequence[Advice]) -> Iterator[StyledLine]:
        for number, item in enumerate(advice, start=1):
            label = "Do" if number == 1 else ""
            yield from self._labelled(label, f"{number}. {visible(item.do)}", bold=True, hang=3)
            for name, text in (("", item.how), ("cost: ", item.cost), ("check: ", item.verify)):
                if text:
                    yield from self._with_command(f"   {name}{visible(text)}")

    def _with_command(self, text: str) -> Iterator[StyledLine]:
        """Yield a line of advice; a command at its end is never wrapped."""
        command, width = command_in(text), self.look.width
        if not command or width is None or 2 + _LABEL + len(text) <= width:
            yield from self._labelled("", text, hang=3)
            return
        lead = text.removesuffix(command).rstrip()
        if lead:
            yield from self._labelled("", lead, hang=3)
        yield f"  {'':{_LABEL}}     {command}", ""

    def _glance(self, report: Report) -> Iterator[StyledLine]:
        states = ", ".join(f"{state.name} {number:,}" for state, number in _by_size(report))
        yield from self._labelled("States", states or "no TCP socket at all")
        others = [looked for looked in report.namespaces if looked.namespace]
        for looked in others[:_MOST_NAMESPACES]:
            yield from self._labelled("", _in_namespace(looked))
        if len(others) > _MOST_NAMESPACES:
            more = count(len(others) - _MOST_NAMESPACES, "namespace")
            yield from self._labelled("", f"and {more} with fewer sockets: twdiag --json")
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

    def _unseen(self, report: Report) -> Iterator[StyledLine]:
        before = ""
        for gap in sorted(report.gaps, key=lambda gap: gap.what in LEFT_OUT):
            label = unseen_label(gap)
            yield from self._labelled("" if label == before else label, unseen_words(gap))
            before = label
        if report.skipped:
            names = ", ".join(skip.rule for skip in report.skipped)
            yield from self._labelled("Not judged", names)

    def _labelled(
        self, label: str, text: str, *, bold: bool = False, hang: int = 0
    ) -> Iterator[StyledLine]:
        """Yield text behind a label, wrapped beside it."""
        if text.startswith("- "):
            hang = 2
        head = f"  {label:{_LABEL}}" if len(label) < _LABEL else f"  {label} "
        after = " " * (2 + _LABEL + hang)
        yield from self._wrap(text, head, after, style="bold" if bold else "")

    def _wrap(
        self, text: str, before: str = "", after: str = "", style: str = ""
    ) -> Iterator[StyledLine]:
        if not self.look.unicode:
            text = text.encode("ascii", "backslashreplace").decode()
        if self.look.width is None:
            yield before + text, style
            return
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


def _in_namespace(looked: LookedAt) -> str:
    text = f"in {visible(looked.label)} {count(looked.sockets, 'socket')}"
    found = f", {count(looked.findings, 'finding')}" if looked.findings else ""
    return text + found + (" (read from outside)" if looked.outside else "")


def _by_size(report: Report) -> list[tuple[State, int]]:
    return sorted(report.states.items(), key=lambda item: (-item[1], item[0]))


def _nothing_shown(report: Report) -> str:
    others = count(int(str(report.facts[facts.HIDDEN])), "other")
    worst = report.facts[facts.HIDDEN_WORST]
    return f"no finding matches the filter; {others} left out, the worst {worst}"
