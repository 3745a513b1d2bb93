"""`twdiag explain`: states, scenarios, topics, myths and rules, drawn and told."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from twdiag.cli import streams
from twdiag.cli.options import AsciiOption, Color, ColorOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.explain.layout import SetLine
    from twdiag.explain.library import Library
    from twdiag.explain.page import Page, PageBlock
    from twdiag.explain.terms import Practice
    from twdiag.rules.rule import Rule
    from twdiag.software import Software

EPILOG: Final = """\b
Examples:
  twdiag explain                         the index
  twdiag explain TIME-WAIT               a state, in any spelling
  twdiag explain CLOSE_WAIT --live       with this host's own numbers
  twdiag explain ports-running-out       the manual of a rule
  twdiag explain ECONNRESET              an error, or a whole line of a log
  journalctl -b | twdiag explain -       the errors of many lines, counted
  twdiag explain find-the-line           from CLOSE_WAIT to the leaking code
  twdiag explain last-ack-lost --step    a scenario, one key at a time
  twdiag explain --json                  the handshake model for a program
"""


_NARROWEST: Final = 40
"""Columns below which words would be cut."""

_LONGEST: Final = 1 << 20
"""How many bytes a line may have; what is longer is read in pieces."""


@dataclass(frozen=True)
class _Look:
    """How to write: plain characters, colours, through a pager, and in how many columns."""

    ascii: bool
    color: bool
    pager: bool
    width: int


def explain(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]",
            help="A state, scenario, topic, myth, rule, program or line of a log; - reads lines.",
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Add this host's own numbers to a state or a rule.")
    ] = False,
    step: Annotated[
        bool, typer.Option("--step", help="Walk through a scenario, one key at a time.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON, schema twdiag-explain/1.")
    ] = False,
    pager: Annotated[
        bool, typer.Option("--pager/--no-pager", help="Show long texts in a pager, on a terminal.")
    ] = True,
    ascii: AsciiOption = False,
    color: ColorOption = Color.AUTO,
) -> None:
    """Explain a state, a finding or a myth by the TCP handshake."""
    from twdiag.cli import terminal
    from twdiag.errors import refuse_both
    from twdiag.explain.library import Library

    terminal.make_output_safe()
    library = Library(_rules(), _programs(), practices=_practices())
    page = _asked_for(library, words) if words else None
    on_terminal = sys.stdout.isatty()
    dumb = terminal.is_dumb(sys.stdout)
    look = _Look(
        ascii or dumb or not terminal.draws(sys.stdout),
        terminal.wants_color(on_terminal, color.value, os.environ),
        pager and on_terminal and not dumb,
        max(_NARROWEST, terminal.columns()),
    )
    if step:
        refuse_both({"--step": step, "--json": json})
        refuse_both({"--step": step, "--live": live})
        _walk(page, look)
        return
    now = _now(page) if live else ()
    if json:
        _write_json(library, page, now)
    else:
        _write(_set(library, page, now, look), look)


def _asked_for(library: Library, words: list[str]) -> Page:
    """Return the page that words name; `-` stands for the lines of standard input."""
    if words != ["-"]:
        return library.find(" ".join(words))
    if sys.stdin is not None and sys.stdin.isatty():
        streams.say("Paste the lines, then press Ctrl-D.")
    return library.find_lines(_lines())


def _lines() -> Iterator[str]:
    """Yield the lines of standard input; bytes that are not UTF-8 stay what they are."""
    while sys.stdin is not None and (line := sys.stdin.buffer.readline(_LONGEST)):
        yield line.decode("utf-8", "surrogateescape").rstrip("\n")


def _rules() -> Iterator[Rule[Any]]:
    """Yield every rule; they are loaded only where a page of one is asked for."""
    from twdiag.rules import RULES

    yield from RULES


def _programs() -> Iterator[Software]:
    """Yield every known program; their files are read only where a page of one is asked for."""
    from twdiag.software import all_software

    yield from all_software()


def _practices() -> Iterator[Practice]:
    """Yield every scenario of the lab; they are loaded only where no written page answers."""
    from twdiag.explain.terms import Practice
    from twdiag.lab import SCENARIOS

    for scenario in SCENARIOS:
        rules = tuple(dict.fromkeys(expected.rule for expected in scenario.expects))
        yield Practice(scenario.name, scenario.summary, scenario.teaches, rules)


def _set(
    library: Library, page: Page | None, now: tuple[PageBlock, ...], look: _Look
) -> list[SetLine]:
    """Return the lines of the index or of a page, this host's numbers at its end."""
    from dataclasses import replace

    from twdiag.explain.layout import set_index, set_page

    if page is None:
        return set_index(library.index, ascii=look.ascii, width=look.width)
    return set_page(replace(page, body=(*page.body, *now)), ascii=look.ascii, width=look.width)


def _now(page: Page | None) -> tuple[PageBlock, ...]:
    """Return what this host shows of the page's state or rule."""
    from twdiag.errors import UsageError
    from twdiag.explain.page import PageKind

    if page is None or page.kind not in (PageKind.STATE, PageKind.RULE):
        raise UsageError("--live is for states and rules", "try: twdiag explain TIME_WAIT --live")
    return _state_now(page.name) if page.kind is PageKind.STATE else _rule_now(page.name)


def _state_now(name: str) -> tuple[PageBlock, ...]:

    from twdiag import sources
    from twdiag.explain.live import example, state_now
    from twdiag.tcp import parse_state

    state = parse_state(name)
    assert state is not None
    snapshot = sources.collect()
    row = example(state, snapshot)
    if row is not None and row.inode:
        owners, gaps = sources.find_owners(snapshot, {row.inode})
        snapshot = snapshot._replace(owners=owners, gaps=(*snapshot.gaps, *gaps))
    return state_now(state, snapshot)


def _rule_now(name: str) -> tuple[PageBlock, ...]:
    from twdiag import rules, sources
    from twdiag.engine.look import Question, examined
    from twdiag.explain.live import rule_now

    report, view = examined(sources.collect(), Question(rules=rules.choose([name])))
    return rule_now(report, view.snapshot)


def _write_json(library: Library, page: Page | None, now: tuple[PageBlock, ...]) -> None:
    import json

    from twdiag.explain.as_json import index_as_json, page_as_json

    value = index_as_json(library.index) if page is None else page_as_json(page, now)
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _write(lines: list[SetLine], look: _Look) -> None:
    """Print lines, through the pager where that is wanted and there is one."""
    from twdiag.explain.screen import coloured, plain

    text = coloured(lines) if look.color else plain(lines)
    if not (look.pager and _page(text)):
        sys.stdout.write(text)


def _page(text: str) -> bool:
    """Show a text in $PAGER or less, and return whether that worked."""
    # F: not for what fits on the screen; I: search in any case; R: colours; X: leave it there.
    environment = {"LESS": "FIRX", **os.environ}
    command = shlex.split(os.environ.get("PAGER") or "less")
    try:
        pager = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=environment, encoding="utf-8", errors="replace"
        )
    except (OSError, ValueError):
        return False
    try:
        pager.communicate(text)
    except BrokenPipeError:
        pager.wait()
    except KeyboardInterrupt:
        # The pager got it too, and decides for itself whether to end.
        pager.wait()
    return True


def _walk(page: Page | None, look: _Look) -> None:
    """Walk through the scenario of a page on the terminal."""
    from twdiag.errors import UsageError
    from twdiag.explain import walk
    from twdiag.explain.screen import write
    from twdiag.explain.stories import find_story

    story = find_story(page.name) if page else None
    if page is None or story is None:
        raise UsageError("--step is for scenarios", "try: twdiag explain last-ack-lost --step")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "--step needs a terminal to read keys from",
            f"without one: twdiag explain {story.name}",
        )

    def show(lines: list[SetLine]) -> None:
        walk.clear(sys.stdout)
        write(lines, sys.stdout, color=look.color)
        sys.stdout.flush()

    with walk.keyboard(sys.stdin.fileno()) as read_key:
        walk.walk(page, story, show, read_key, ascii=look.ascii, width=look.width)
