"""The short report of a terminal: what a line keeps that is too long for it."""

from __future__ import annotations

import shlex

import pytest

from twdiag.render.pieces import Look
from twdiag.render.screen import _needing, _shortened, _wrapped

_FIX = (
    "            fix   See what the clients ask for, then why this server closes first: "
    "HTTP/1.0 or Connection: close in the access log, then its settings"
)


@pytest.mark.parametrize(
    ("width", "end"),
    [(80, "clients ask for"), (90, "closes first"), (60, "clients ask for"), (40, "what the ...")],
)
def test_a_long_line_keeps_every_whole_clause_that_fits(width: int, end: str) -> None:
    short = _shortened(_FIX, Look(width=width, height=24))
    assert short.endswith(end)
    assert len(short) <= width


def test_a_line_without_a_blank_is_cut_with_a_mark() -> None:
    assert _shortened("x" * 90, Look(width=80, height=24)) == "x" * 76 + " ..."


def test_a_line_that_fits_and_one_for_a_pipe_stay_whole() -> None:
    assert _shortened("a, b", Look(width=80, height=24)) == "a, b"
    assert _shortened(_FIX, Look()) == _FIX


@pytest.mark.parametrize("width", range(40, 80))
def test_a_number_keeps_its_percent_sign_on_its_line(width: int) -> None:
    text = "holds 252 CLOSE_WAITs it never closed, 98 % of its descriptor limit, in 2 % of all"
    lines = [line for line, _ in _wrapped(text, " ", " ", Look(width=width))]
    assert not any(line.strip().startswith("%") for line in lines)
    assert " ".join(line.strip() for line in lines) == text


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (None, "  # needs py-spy (pip install py-spy)"),
        (80, "  # needs py-spy (pip install py-spy)"),
        (60, "  # needs py-spy"),
        (40, "--pid 4"),
    ],
)
def test_what_a_command_needs_stands_behind_it_as_a_comment(width: int | None, end: str) -> None:
    line = _needing(
        "            now   py-spy dump --pid 4", "py-spy (pip install py-spy)", Look(width)
    )
    assert line.endswith(end)
    assert shlex.split(line, comments=True) == ["now", "py-spy", "dump", "--pid", "4"]


def test_a_command_that_every_host_has_stands_alone() -> None:
    assert _needing("            now   kill 4", "", Look()) == "            now   kill 4"
