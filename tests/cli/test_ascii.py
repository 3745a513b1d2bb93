"""Drawings in ASCII: where --ascii asks for it, and where locale or terminal show nothing else."""

from __future__ import annotations

import io

import pytest

from tests.render.made_reports import leak, mixed
from tests.running import forked
from twdiag.cli.terminal import look_of
from twdiag.render.pieces import Detail, Look
from twdiag.render.text import render_text

UTF8 = {"LANG": "de_DE.UTF-8", "TERM": "xterm"}


class Terminal(io.TextIOWrapper):
    """A stream in UTF-8 that calls itself a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "ascii", "draws"),
    [
        (UTF8, False, True),
        (UTF8, True, False),
        ({**UTF8, "LC_ALL": "C"}, False, False),
        ({"TERM": "xterm"}, False, False),  # a rescue shell, cron: Python writes UTF-8 all the same
        ({"TERM": "xterm", "LC_CTYPE": "C.UTF-8"}, False, False),  # Python itself has put it there
        ({"TERM": "linux", "LANG": "C.UTF-8"}, False, True),
        ({**UTF8, "TERM": "dumb"}, False, False),
    ],
)
def test_who_draws_lines(environ: dict[str, str], ascii: bool, draws: bool) -> None:
    look = look_of(Terminal(), "auto", Detail.NORMAL, ascii=ascii, environ=environ)
    assert look.unicode is draws


@pytest.mark.parametrize(
    "words", [(), ("diagnose", "--full"), ("lab", "run", "client-closes-first")]
)
def test_nothing_but_ascii_is_written(words: tuple[str, ...]) -> None:
    if words[:1] == ("lab",):
        pytest.importorskip("pyroute2")
    said = forked(*words, "--ascii", "--color=never")
    assert (said.code, said.err) == (0, "") or "namespace" in said.err
    assert said.out.isascii()


def test_explain_and_diagnose_have_the_same_option() -> None:
    for command in ("diagnose", "explain", "lab run"):
        assert "--ascii" in forked(*command.split(), "--help").out


@pytest.mark.parametrize("width", [60, 66, 72, 80, 100])
@pytest.mark.parametrize("detail", [Detail.NORMAL, Detail.FULL])
def test_the_handshake_is_drawn_in_sixty_columns(width: int, detail: Detail) -> None:
    out = io.StringIO()
    render_text(leak(), out, Look(width, unicode=False, detail=detail, height=60))
    lines = out.getvalue().splitlines()
    assert any("you are here" in line for line in lines)
    assert any("(LAST_ACK)" in line for line in lines)
    assert max(map(len, lines)) <= width
    assert out.getvalue().isascii()


def test_below_that_it_is_left_out() -> None:
    out = io.StringIO()
    render_text(leak(), out, Look(59, detail=Detail.FULL, height=60))
    assert "you are here" not in out.getvalue()


def test_names_in_other_characters_are_escaped_in_a_pipe_too() -> None:
    report, out = mixed(), io.StringIO()
    name = report.findings[0].summary + " é│"
    odd = report._replace(findings=(report.findings[0]._replace(summary=name),))
    for detail in Detail:
        render_text(odd, out, Look(None, unicode=False, detail=detail))
    assert out.getvalue().isascii()
    assert "\\xe9\\u2502" in out.getvalue()
