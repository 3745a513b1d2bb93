"""Whole reports as people see them, compared with what was looked at and found good."""

from __future__ import annotations

import pytest

from tests.render.made_reports import FOLDER, REPORTS, written


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_is_as_it_was(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert written(REPORTS[name]) == expected, "if it is better so: python -m tests.render"


def test_no_report_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(REPORTS)
