"""Whole reports as people see them, compared with what was looked at and found good."""

from __future__ import annotations

import pytest

from tests.render.made_reports import FOLDER, REPORTS, written


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_is_as_it_was(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert written(REPORTS[name]) == expected, "if it is better so: python -m tests.render"


@pytest.mark.parametrize("name", [name for name in REPORTS if name.endswith("-ascii")])
def test_a_terminal_that_knows_ascii_alone_gets_no_more(name: str) -> None:
    assert written(REPORTS[name]).isascii()


@pytest.mark.parametrize("name", [name for name in REPORTS if name.startswith("hostile")])
def test_a_hostile_name_reaches_no_terminal(name: str) -> None:
    assert all(c == "\n" or c.isprintable() for c in written(REPORTS[name]))


def test_no_report_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(REPORTS)
