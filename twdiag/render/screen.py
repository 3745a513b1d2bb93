"""One screen: the verdict in words, the findings with what to type next, and the host at a glance.

It holds at 80x24 whatever was found: what does not fit is folded and counted, never cut in the
middle; a command stands on a line of its own and is never wrapped.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.model import facts
from twdiag.model.findings import Severity
from twdiag.model.snapshot import HOST_NETNS, LEFT_OUT
from twdiag.render.folding import folded
from twdiag.render.pieces import (
    STYLES,
    closers,
    drawing,
    nothing_wrong,
    sparkline,
    unseen_label,
    unseen_words,
    where,
)
from twdiag.wording import command_in, count, rate, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twdiag.model.findings import Finding, Report
    from twdiag.render.folding import Folded
    from twdiag.render.pieces import Look, StyledLine

_INDENT: Final = 12
_PROMPT: Final = 1
"""The line that the shell's prompt takes."""
_GAPS: Final = 2
"""The empty lines before and after the findings."""


class _Block(NamedTuple):
    """The lines of one finding; `extra` can be left out where there is no room."""

    head: list[StyledLine]
    extra: list[StyledLine]


def screen(report: Report, look: Look) -> Iterator[StyledLine]:
    """Yield the lines of one screen."""
    top = [*_verdict(report, look), *_header(report, look)]
    bottom = [*_glance(report, look), *_unseen(report, look), *_footer(report, look)]
    room = None if look.height is None else look.height - _PROMPT - len(top) - len(bottom) - _GAPS
    middle = _findings(report, look, room)
    yield from top
    if middle:
        yield "", ""
        yield from middle
    drawing = _drawing(report, look)
    if drawing and (room is None or len(middle) + len(drawing) < room):
        yield "", ""
        yield from drawing
    yield "", ""
    yield from bottom


def finding_lines(findings: Sequence[Finding], look: Look) -> Iterator[StyledLine]:
    """Yield the lines of some findings, each with what to type next."""
    above: dict[str, int] = {}
    for number, one in enumerate(folded(findings), start=1):
        block = _block(number, one, look, above)
        yield from (*block.head, *block.extra)


def _verdict(report: Report, look: Look) -> Iterator[StyledLine]:
    word, style = report.status.label.upper(), STYLES[report.status]
    if not report.findings:
        hidden = report.facts.get(facts.HIDDEN)
        text = nothing_wrong(report)
        if hidden:
            worst = report.facts.get(facts.HIDDEN_WORST)
            others = count(int(str(hidden)), "other")
            text = f"no finding matches the filter; {others} left out, the worst {worst}"
    else:
        first = folded(report.findings)[0]
        text = first.located() if first.is_many else first.worst.located
    yield from _wrapped(visible(text), f"{word}  ", " " * (len(word) + 2), look, style)


def _header(report: Report, look: Look) -> Iterator[StyledLine]:
    moment = datetime.fromtimestamp(report.taken_at, tz=timezone.utc)
    host = visible(report.host.name)
    if report.netns != HOST_NETNS:
        host += f", namespace {visible(report.netns)}"
    numbers = Counter(finding.severity for finding in report.findings)
    found = ", ".join(
        count(numbers[severity], name, many)
        for severity, name, many in (
            (Severity.CRITICAL, "critical", "critical"),
            (Severity.WARNING, "warning", ""),
            (Severity.NOTICE, "notice", ""),
        )
        if numbers[severity]
    )
    text = f"{host}  {moment:%Y-%m-%d %H:%M:%S} UTC  Linux {visible(report.host.kernel)}"
    if report.namespaces:
        text += f"  {count(len(report.namespaces), 'namespace')} looked at"
    yield from _wrapped(text + (f"  {found}" if found else ""), "", "", look, "dim")


def _findings(report: Report, look: Look, room: int | None) -> list[StyledLine]:
    """Return the lines of the findings, as many as there is room for; the rest is counted."""
    groups, above = folded(report.findings), dict[str, int]()
    blocks = [
        _block(number, one, look, above, is_verdict=number == 1)
        for number, one in enumerate(groups, start=1)
    ]
    if room is None:
        return [line for block in blocks for line in (*block.head, *block.extra)]
    for keep_extra in (len(blocks), *range(len(blocks) - 1, -1, -1)):
        lines = _laid_out(blocks, keep_extra)
        if len(lines) <= room:
            return lines
    shown = len(blocks)
    while shown > 1 and len(_laid_out(blocks[:shown], 0)) + 1 > room:
        shown -= 1
    left = sum(group.findings for group in groups[shown:])
    fold = f"   ... and {count(left, 'finding')} more: twdiag --full"
    fold = _with(fold, ", or --brief for a line each", look)
    return [*_laid_out(blocks[:shown], 0), *([(fold, "bold")] if left else [])]


def _laid_out(blocks: Sequence[_Block], extras: int) -> list[StyledLine]:
    lines: list[StyledLine] = []
    for number, block in enumerate(blocks):
        lines += block.head
        if number < extras:
            lines += block.extra
    return lines


def _block(
    number: int, group: Folded, look: Look, above: dict[str, int], *, is_verdict: bool = False
) -> _Block:
    """Return the lines of a finding; `above` has the number of the finding that named a command.

    Where its summary is the verdict, it stands in the first line already.
    """
    finding = group.worst
    before = f"{number:2} {finding.severity.label.upper():9}"
    text = _heading(group, is_verdict=is_verdict)
    head = list(_wrapped(text, before, " " * _INDENT, look, STYLES[finding.severity]))
    # Whose fault it is belongs to the finding, whatever else there is no room for.
    guilty = [end for end in finding.other_ends[:1] if end.must_act]
    head += [(line, "") for end in guilty for line in _lines("peer", visible(end.text), look)]
    waits = list(_waits(group, look))
    actions = [*_command(number, finding, above, look), *_cure(finding, look)]
    if finding.severity >= Severity.WARNING or is_verdict:
        kept = max(1, 3 - len(waits)) if waits else 2
        return _Block([*head, *waits, *actions[:kept]], actions[kept:])
    return _Block(head, [*waits, *actions])


def _heading(group: Folded, *, is_verdict: bool) -> str:
    finding = group.worst
    place, summary = visible(where(finding)), visible(group.summary())
    if group.namespaces > 1:
        more = f" ({group.findings} findings)" if group.findings > group.namespaces else ""
        worst = f"the worst, in {place}" if place else "the worst, here"
        text = f"{finding.rule} in {group.namespaces} namespaces{more}; {worst}"
        return text if is_verdict else f"{text}: {summary}"
    rule = f"{finding.rule}{f' in {place}' if place else ''}"
    return rule if is_verdict else f"{summary} ({rule})"


def _waits(group: Folded, look: Look) -> Iterator[StyledLine]:
    """Yield what the process does instead, the most useful sentence of it, and who is elsewhere."""
    if group.waits:
        for line in _lines("waits", visible(group.waits), look):
            yield line, ""
    for end in group.worst.other_ends[:1]:
        for line in () if end.must_act else _lines("peer", visible(end.text), look):
            yield line, ""


def _advised(finding: Finding) -> str:
    """Return the first command of a finding's advice, "" without one."""
    return next(filter(None, (command_in(a.how) for a in finding.advice)), "")


def _command(
    number: int, finding: Finding, above: dict[str, int], look: Look
) -> Iterator[StyledLine]:
    """Yield what to type now, once: two findings about one process want the same command."""
    now = finding.steps[0].run if finding.steps else _advised(finding)
    if not now:
        return
    first = above.setdefault(now, number)
    if first == number:
        tool = finding.steps[0].tool if finding.steps else ""
        yield _needing(_line("now", now), visible(tool), look), "bold"
    else:
        yield _line("now", f"the same as for {first}"), ""


def _needing(line: str, tool: str, look: Look) -> str:
    """Return a line with what its command needs, as a comment: a shell takes the whole line."""
    short = tool.partition(" (")[0]
    for words in dict.fromkeys((tool, short)) if tool else ():
        longer = f"{line}  # needs {words}"
        if look.width is None or len(longer) <= look.width:
            return longer
    return line


def _cure(finding: Finding, look: Look) -> Iterator[StyledLine]:
    """Yield what puts it right, and what shows that it did."""
    advised = _advised(finding)
    for advice in finding.advice:
        if command_in(advice.how) != advised or not advised:
            how = "" if command_in(advice.how) else advice.how
            text = f"{advice.do}: {how}" if how else advice.do
            yield _shortened(_line("fix", text), look), ""
            break
    else:
        if finding.steps and advised:  # another command is told as the one to type now
            do = finding.advice[0].do
            whole = _line("fix", f"{do}: {advised}")
            fits = look.width is None or len(whole) <= look.width
            yield whole if fits else _shortened(_line("fix", do), look), ""
    see = next(filter(None, (command_in(a.verify) for a in finding.advice)), "")
    if see:
        yield _line("see", see), ""


def _line(label: str, text: str) -> str:
    return f"{'':{_INDENT}}{label:<6}{visible(text)}"


def _lines(label: str, text: str, look: Look) -> list[str]:
    """Return a sentence behind a label, whole, on as many lines as it takes."""
    head, after = f"{'':{_INDENT}}{label:<6}", " " * (_INDENT + 6)
    if look.width is None:
        return [head + text]
    return textwrap.wrap(text, max(40, look.width), initial_indent=head, subsequent_indent=after)


def _shortened(text: str, look: Look) -> str:
    """Return a line that ends at a clause or a word where it is too long for the screen."""
    if look.width is None or len(text) <= look.width:
        return text
    cut = text[: look.width - 4]
    clause = max(cut.rfind(mark) for mark in ("; ", ", ", ": "))
    if clause > look.width // 2:
        return cut[:clause]
    word = cut.rfind(" ")
    return cut[: word if word > look.width // 2 else len(cut)] + " ..."


def _drawing(report: Report, look: Look) -> list[StyledLine]:
    """Return the handshake with the place of the only finding, nothing where it does not fit."""
    place = report.findings[0].place if len(report.findings) == 1 else None
    return [] if place is None or look.height is None else drawing(place, look)


def _glance(report: Report, look: Look) -> Iterator[StyledLine]:
    if report.closes and any(report.closes):
        yield _closes(report.closes, look), ""
    states = sorted(report.states.items(), key=lambda item: (-item[1], item[0]))
    words = ", ".join(f"{state.name} {number:,}" for state, number in states)
    waiting = report.facts.get(facts.TIME_WAIT)
    if waiting:
        words += f"; TIME_WAIT closed first by {closers(report.facts)}"
    words = words or "no TCP socket at all"
    if report.namespaces:
        elsewhere = sum(looked.sockets for looked in report.namespaces if looked.namespace)
        words += f"; in the other namespaces {count(elsewhere, 'socket')}"
    yield from _wrapped(words, " States    ", " " * 11, look)
    small = report.facts.get(facts.SMALL_DESTINATIONS)
    if small:
        text = f"{small:,} sockets to destinations with a few each are not told apart"
        yield from _wrapped(text, " " * 11, " " * 11, look)


def _closes(values: Sequence[int], look: Look) -> str:
    now = sorted(values[-3:])[1]
    words = f"  now {rate(now)}, peak {rate(max(values))}, 60 s"
    room = 60 if look.width is None else max(10, look.width - len(words) - 11)
    step = -(-len(values) // room)
    sums = [sum(values[at : at + step]) for at in range(0, len(values), step)]
    return f" Closes/s  {sparkline(sums, unicode=look.unicode)}{words}"


def _unseen(report: Report, look: Look) -> Iterator[StyledLine]:
    before = ""
    for gap in sorted(report.gaps, key=lambda gap: gap.what in LEFT_OUT):
        label = unseen_label(gap)
        head = f" {'' if label == before else label:10}"
        yield from _wrapped(unseen_words(gap), head, " " * 11, look)
        before = label
    if report.skipped:
        names = ", ".join(skip.rule for skip in report.skipped)
        yield from _wrapped(names, " Not judged  ", " " * 11, look)


def _footer(report: Report, look: Look) -> Iterator[StyledLine]:
    if report.findings:
        yield "", ""
        commands = f" twdiag explain {report.findings[0].rule}   twdiag --full"
        yield _with(commands, ": why, costs, what not to do", look), "dim"


def _with(text: str, more: str, look: Look) -> str:
    """Return a line with what explains it where there is room for that."""
    return text + more if look.width is None or len(text + more) <= look.width else text


_PERCENT = "\u00a0%"
"""A number and its sign stay on one line."""


def _wrapped(
    text: str, before: str, after: str, look: Look, style: str = ""
) -> Iterator[StyledLine]:
    if not look.unicode:
        text = text.encode("ascii", "backslashreplace").decode()
    if look.width is None:
        yield before + text, style
        return
    lines = textwrap.wrap(
        text.replace(" %", _PERCENT),
        max(30, look.width),
        initial_indent=before,
        subsequent_indent=after,
        break_on_hyphens=False,
    )
    for line in lines or [before]:
        yield line.replace(_PERCENT, " %"), style
