"""Ended connections as lines: within the terminal, inert, and the same in JSON."""

from __future__ import annotations

import io
import json
import os
import re
import time
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.close_summary import TraceOutcome
from twdiag.model.closes import Close, ClosedBy, Closer, How, Losses, Opened, Why
from twdiag.model.findings import Advice, Confidence, Finding, ListenerSubject, Severity
from twdiag.model.snapshot import Owner
from twdiag.render.trace import CloseTextLines, why_of
from twdiag.render.trace_json import CloseJsonLines, close_json
from twdiag.render.trace_summary import summary_lines

FULL: Final = Close(
    ended_at=1_795_000_000.123456,
    family=2,
    local="10.0.0.1",
    local_port=8080,
    remote="10.0.0.9",
    remote_port=51234,
    first=ClosedBy.HERE,
    how=How.FIN,
    why=Why.CLOSE,
    opened=Opened.IN,
    closer=Closer(916, 915, "nginx", "worker"),
    lived=1.203,
    idle=0.9,
    sent=1204,
    received=300,
    rtt=0.0005,
)
BARE: Final = Close(1_795_000_000.5, 2, "10.0.0.1", 8080, "10.0.0.9", 0, observed=False)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def text(close: Close, width: int | None) -> str:
    """Return the line of one close."""
    out = io.StringIO()
    CloseTextLines(out, width).close(close)
    return out.getvalue()


def test_a_wide_line_has_all() -> None:
    assert " ".join(text(FULL, None).split()) == (
        "11:06:40.123 here FIN nginx/915 10.0.0.1:8080 <- 10.0.0.9:51234 "
        "1.203s 900ms - 1,204 300 close()"
    )


def test_a_narrow_line_fits_80_columns() -> None:
    line = text(FULL, 80)
    assert len(line) <= 81
    assert "nginx" in line
    assert ":8080 <- 10.0.0.9:51234" in line
    assert "close()" in line


def test_columns_stand_under_their_heads() -> None:
    for width in (80, None):
        out = io.StringIO()
        lines = CloseTextLines(out, width)
        lines.head()
        lines.close(FULL)
        head, line = out.getvalue().splitlines()
        for word, value in (("FIRST", "here"), ("HOW", "FIN"), ("PROCESS", "nginx")):
            assert head.index(word) == line.index(value)
        assert head.index("WHY") == line.index("close()")


def test_what_is_not_known_is_a_dash() -> None:
    line = text(BARE, None)
    assert line.split()[1:4] == ["-", "-", "-"]
    assert "10.0.0.9:?" in line
    assert line.split()[-1] == "-"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"why": Why.UNREAD, "dying": True}, "unread data at exit"),
        ({"why": Why.EXIT, "dying": True}, "exit"),
        ({"why": Why.KILLED, "dying": True}, "SIGKILL"),
        ({"why": Why.RESET, "open": True}, "reset by peer, descriptor still open"),
    ],
)
def test_why_is_told_in_words(change: dict[str, Any], words: str) -> None:
    assert why_of(FULL._replace(**change)) == words


def test_less_than_a_tick_is_not_told_as_no_time_at_all() -> None:
    guessed = FULL._replace(observed=False, lived=0.0, idle=0.0)
    assert text(guessed, None).split()[7:9] == ["<10ms", "<10ms"]
    assert " 0s " not in text(guessed, 80)
    # It lived for longer than nothing: nothing is known.
    assert text(guessed._replace(older=True), None).split()[7:9] == ["-", "<10ms"]
    assert text(FULL._replace(lived=0.0), None).split()[7] == "0s"  # observed, to the microsecond


def test_the_summary_counts_it_as_up_to_a_tick() -> None:
    outcome = TraceOutcome("multicast", 0.0, 1.0)
    outcome.summary.add(FULL._replace(observed=False, lived=0.0, idle=0.004))
    outcome.summary.add(FULL._replace(lived=0.0005))
    assert "Lifetime:  to 1ms 1  to 10ms 1" in list(summary_lines(outcome))


@pytest.mark.parametrize("ends", [("127.0.0.1", "127.0.0.2"), ("::1", "::1"), ("10.1.1.1",) * 2])
def test_the_summary_says_that_connections_within_the_host_count_twice(
    ends: tuple[str, str],
) -> None:
    outcome = TraceOutcome("multicast", 0.0, 1.0)
    outcome.summary.add(FULL)
    assert "Within this host" not in "\n".join(summary_lines(outcome))
    for local, remote in (ends, ends[::-1]):
        outcome.summary.add(FULL._replace(local=local, remote=remote))
    lines = list(summary_lines(outcome))
    assert "Within this host: 2; such a connection counts once for each end" in lines


def test_every_why_has_words() -> None:
    assert all(why_of(FULL._replace(why=why)) for why in Why)


NAMES: Final = st.text(max_size=20) | st.binary(max_size=15).map(
    lambda b: b.decode("utf-8", "surrogateescape")
)


@given(NAMES, st.sampled_from([None, 80, 200]))
def test_a_name_cannot_act_on_the_terminal_or_break_the_line(name: str, width: int | None) -> None:
    closer = Closer(1, None, name, name)
    line = text(FULL._replace(closer=closer), width)
    assert line.count("\n") == 1
    assert line[:-1].isprintable() or "\u00a0" in line
    out = io.StringIO()
    CloseJsonLines(out).close(FULL._replace(closer=closer))
    assert out.getvalue().isascii()
    assert json.loads(out.getvalue())["process"]["pid"] is None


AGES: Final = st.none() | st.floats(0, 1e8)


@given(AGES, AGES, AGES, st.integers(0, 10**16), st.integers(0, 10**16))
def test_any_number_keeps_the_columns(
    lived: float | None, idle: float | None, waited: float | None, sent: int, received: int
) -> None:
    close = FULL._replace(
        lived=lived, idle=idle, close_wait=waited, sent=sent, received=received, older=True
    )
    assert text(close, None).index("close()") == text(FULL, None).index("close()")


def test_json_says_the_same() -> None:
    found = close_json(FULL)
    assert json.loads(json.dumps(found)) == found
    assert found["time"].endswith(".123456Z")
    assert (found["first"], found["how"], found["why"]) == ("here", "FIN", "close")
    assert found["process"] == {"pid": 915, "tid": 916, "name": "nginx", "thread": "worker"}
    assert found["lifetime_s"] == 1.203
    bare = close_json(BARE)
    assert set(bare) == set(found)
    assert (bare["first"], bare["process"], bare["remote"]["port"]) == (None, None, None)
    assert bare["confidence"] == "inferred"


def outcome(losses: Losses, *closes: Close) -> TraceOutcome:
    """Return an outcome."""
    found = TraceOutcome("tracefs+multicast", 1_795_000_000.0, 30.0, losses=losses)
    for close in closes:
        found.summary.add(close)
    return found


def test_the_summary_fits_80_columns_and_counts() -> None:
    client = FULL._replace(opened=Opened.OUT, first=ClosedBy.PEER, how=How.RST)
    lines = list(summary_lines(outcome(Losses(0, 0), *[FULL] * 23, *[client] * 1234, BARE)))
    assert max(len(line) for line in lines) <= 80
    whole = "\n".join(lines)
    assert "1,258 connections ended in 30.0 s" in whole
    assert "Closed first: here 23, the peer 1,234, both 0, not known 1" in whole
    assert re.search(r"10\.0\.0\.1:8080 +23 +23 +0 +0 +0 ", whole)
    assert re.search(r"10\.0\.0\.9:51234 +1,234 +0 +1,234 +0 +1,234 ", whole)
    assert "Lost: 0 trace events, 0 announcements" in whole


def test_losses_are_never_silent() -> None:
    whole = "\n".join(summary_lines(outcome(Losses(17, 3, elsewhere=5, unplaced=2))))
    assert "Lost: 17 trace events, 3 announcements" in whole
    assert "processes are missing" in whole
    assert "Each lost announcement is a socket's end" in whole
    assert "Of other network namespaces, not told: 5 connections" in whole
    assert "2 connections" in whole
    assert "Lost: not known" in "\n".join(summary_lines(outcome(Losses())))


def test_many_groups_are_cut_with_their_number() -> None:
    closes = [FULL._replace(local_port=port) for port in range(1, 31)]
    whole = "\n".join(summary_lines(outcome(Losses(0, 0), *closes)))
    assert re.search(r"20 more +20", whole)


def test_the_summary_is_json_too() -> None:
    out = io.StringIO()
    CloseJsonLines(out).summary(outcome(Losses(17, 3), FULL, BARE))
    found = json.loads(out.getvalue())
    assert (found["event"], found["ended"], found["here_first"]) == ("summary", 2, 1)
    assert found["lost"] == {"trace_events": 17, "announcements": 3}
    assert len(found["lifetimes"]) == len(found["marks_s"]) + 1
    assert found["listeners"][0]["port"] == 8080


def test_local_time_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["TZ"] == "UTC"
    utc = text(FULL, None)[:8]
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    assert text(FULL, None)[:8] != utc
    monkeypatch.undo()
    time.tzset()


FINDING: Final = Finding(
    Severity.WARNING,
    Confidence.OBSERVED,
    "nginx on 0.0.0.0:8080 closes idle connections after 2.0 s while their clients still use them: "
    "2 requests lost in 14 closes",
    ListenerSubject("0.0.0.0", 8080, (Owner(5, "ngi\x1bnx", "www"),)),
    {},
    (
        Advice(
            "Raise its idle timeout",
            "nginx's keepalive_timeout, 75 s as shipped",
            verify="no request is lost any more: twdiag trace --port 8080 --for 60s",
        ),
    ),
    rule="keep-alive-race",
)


def test_what_was_found_stands_last_with_what_to_do_and_what_to_type() -> None:
    out = io.StringIO()
    CloseTextLines(out, 80).summary(TraceOutcome("tracefs", 0.0, 5.0, findings=(FINDING,)))
    assert out.getvalue().splitlines()[-6:] == [
        " 1 WARNING  nginx on 0.0.0.0:8080 closes idle connections after 2.0 s while",
        "            their clients still use them: 2 requests lost in 14 closes",
        "            (keep-alive-race)",
        "            fix   Raise its idle timeout: nginx's keepalive_timeout",
        "            see   twdiag trace --port 8080 --for 60s",
        "   why: twdiag explain keep-alive-race",
    ]


def test_in_json_the_summary_has_what_was_found() -> None:
    out = io.StringIO()
    CloseJsonLines(out).summary(TraceOutcome("tracefs", 0.0, 5.0, findings=(FINDING,)))
    assert "\x1b" not in out.getvalue()
    (found,) = json.loads(out.getvalue())["findings"]
    assert (found["rule"], found["severity"]) == ("keep-alive-race", "warning")
    assert found["subject"]["port"] == 8080
    quiet = io.StringIO()
    CloseJsonLines(quiet).summary(TraceOutcome("tracefs", 0.0, 5.0))
    assert json.loads(quiet.getvalue())["findings"] == []
