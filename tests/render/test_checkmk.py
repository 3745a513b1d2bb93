"""The line of a Checkmk local check, read by the rules that Checkmk's own parser follows."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag import lab
from twdiag.check.verdict import Answer, Problem, Ranges, Status, unknown
from twdiag.model.ranges import Range
from twdiag.render.checkmk import render_checkmk

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Said

# cmk/base/plugins/agent_based/local.py: state, a quoted name, metrics without blanks, text.
LINE = re.compile(r"([0-3P]) \"([^\"']+)\" ([^ ]+)( +(.*))?")


class Parsed(NamedTuple):
    status: int
    service: str
    metrics: dict[str, list[str]]
    text: str


def parsed(out: str) -> Parsed:
    """Return what Checkmk reads in the output, which is one line."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    found = LINE.fullmatch(out[:-1])
    assert found, out
    metrics = {}
    for entry in () if found[3] == "-" else found[3].split("|"):
        name, _, values = entry.partition("=")
        assert re.fullmatch(r"[a-z_0-9]+", name)
        words = values.split(";")
        assert 1 <= len(words) <= 5
        float(words[0])
        for level in words[1:3]:
            assert all(float(end) >= 0 for end in level.split(":") if level)
        metrics[name] = words
    return Parsed(int(found[1]), found[2], metrics, found[5] or "")


@pytest.mark.parametrize("name", [scenario.name for scenario in lab.SCENARIOS])
def test_every_scenario(name: str, on: Callable[..., Said]) -> None:
    # Not -vv: that asks processes, and a pid of the played host may have become somebody else's.
    said = on(name, "--format", "checkmk", "-v")
    found = parsed(said.out)
    assert found.status == said.code
    assert found.service == "TCP closing"
    assert "time_wait" in found.metrics
    plain = on(name, "-v")
    assert found.text.split(r"\n")[0] == plain.line.partition(" - ")[2]
    assert len(found.text.split(r"\n")) == len(plain.out.splitlines())


def test_levels_are_drawn_where_checkmk_can(on: Callable[..., Said]) -> None:
    asked = ("-w", "time_wait=10:20", "-c", "time_wait=30", "-w", "established=@5:6")
    found = parsed(on("idle", "--format", "checkmk", *asked).out)
    assert found.metrics["time_wait"][1:3] == ["10:20", "30"]
    assert (
        found.metrics["established"][1:] == ["", "", "0"] or found.metrics["established"][1:] == []
    )
    assert found.metrics["ports_taken_ratio"][1:] == ["70", "90", "0", "100"]


def test_a_check_that_cannot_look_has_no_metrics() -> None:
    out = io.StringIO()
    render_checkmk(unknown("the kernel refuses the socket dump"), out)
    assert out.getvalue() == '3 "TCP closing" - the kernel refuses the socket dump\n'


def test_what_was_not_seen_is_left_out() -> None:
    out = io.StringIO()
    render_checkmk(Answer((), values={"time_wait": 5.0, "close_wait": None}), out)
    assert parsed(out.getvalue()).metrics == {"time_wait": ["5", "", "", "0"]}


@given(
    text=st.text(max_size=80),
    step=st.text(max_size=20),
    value=st.floats(0, 1e9),
    bounds=st.tuples(st.floats(0, 1e9), st.floats(0, 1e9), st.booleans()),
)
def test_any_text_stays_in_its_line(
    text: str, step: str, value: float, bounds: tuple[float, float, bool]
) -> None:
    low, high = sorted(bounds[:2])
    ranges = Ranges({"time_wait": Range(low, high, bounds[2])}, {})
    problem = Problem(Status.WARNING, text, None, step)
    answer = Answer((problem,), values={"time_wait": value}, shown=ranges)
    out = io.StringIO()
    render_checkmk(answer, out, 2)
    found = parsed(out.getvalue())
    assert found.status == 1
    assert "|" not in found.text


def test_what_silences_a_person_is_refused_in_its_own_format(on: Callable[..., Said]) -> None:
    found = parsed(on("idle", "--format", "checkmk", "--quiet").out)
    assert found.status == 3
    assert found.text.startswith("--quiet goes with the format text, not checkmk")
