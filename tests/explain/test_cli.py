"""`twdiag explain` as a user meets it: in a pipe, on a terminal, as JSON, step by step."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from functools import cache
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from twdiag.cli.explain import explain
from twdiag.errors import UsageError
from twdiag.explain.library import Library
from twdiag.explain.stories import STORIES, find_story
from twdiag.explain.story import played
from twdiag.explain.walk import frame, walk
from twdiag.tcp import State
from twdiag.tcp.transitions import TRANSITIONS

if TYPE_CHECKING:
    from twdiag.explain.layout import SetLine
    from twdiag.explain.page import Page
    from twdiag.explain.story import Story

APP = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
APP.command()(explain)

LEGAL = {(t.before.name, t.event.name, t.after.name) for t in TRANSITIONS if t.linux}

_PROGRAM = """
import sys, typer
from twdiag.cli.explain import explain
from twdiag.errors import TwdiagError
app = typer.Typer(add_completion=False)
app.command()(explain)
try:
    sys.exit(app(sys.argv[1:], standalone_mode=False) or 0)
except TwdiagError as error:
    print(error.what, error.next_step, sep="; ")
    sys.exit(3)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(autouse=True)
def _a_locale_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def _run(*words: str) -> str:
    """Return what the command writes to stdout; what it raises comes through."""
    result = CliRunner().invoke(APP, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_the_index_in_a_pipe_is_plain_text() -> None:
    out = _run()
    assert "\x1b" not in out
    for word in ("TIME_WAIT", "last-ack-lost", "half-close", "ports-running-out", "nginx"):
        assert word in out.split()


def test_a_page_in_a_pipe() -> None:
    out = _run("TIME-WAIT")
    assert out.startswith("TIME_WAIT: ")
    assert "you are here ══► TIME_WAIT" in out
    assert "\x1b" not in out


def test_words_apart_are_one_name() -> None:
    assert _run("last", "ack", "lost") == _run("last-ack-lost")


def test_ascii_on_demand() -> None:
    out = _run("states", "--ascii")
    assert out.isascii()
    assert "| FIN_WAIT2" in re.sub(" +", " ", out)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_ascii_where_stdout_cannot_do_more(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "four-way-close"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii()
    assert b"|---------" in done.stdout


@pytest.mark.parametrize(
    ("locale", "plain"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LANG": "C"}, True),
        ({}, True),
        ({"LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, False),
        ({"LANG": "C", "PYTHONIOENCODING": "utf-8"}, False),
    ],
    ids=str,
)
def test_the_c_locale_gets_ascii_by_itself(locale: dict[str, str], plain: bool) -> None:
    environ = {name: value for name, value in os.environ.items() if name[:3] not in ("LC_", "LAN")}
    environ.pop("PYTHONIOENCODING", None)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "four-way-close"],
        env={**environ, **locale},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii() is plain


@pytest.mark.parametrize("columns", ["60", "100"])
def test_it_is_set_for_the_width_of_the_terminal(columns: str) -> None:
    terminal = _Terminal("CLOSE_WAIT", "--no-pager", "--color", "never", COLUMNS=columns)
    terminal.wait_for("Rests on")
    terminal.end()
    drawn = [line.rstrip() for line in terminal.text.splitlines() if "│" in line]
    assert max(map(len, drawn)) <= min(int(columns), 80)


def test_a_manual_that_python_stripped_is_missed_and_not_shown_empty() -> None:
    done = subprocess.run(
        [sys.executable, "-OO", "-c", _PROGRAM, "close-wait-leak"],
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout
    assert done.returncode in (0, 3)
    if done.returncode == 3:
        assert "PYTHONOPTIMIZE" in shown
    else:
        assert "What to do" in shown


def test_colours_on_demand_only() -> None:
    assert "\x1b[" in _run("TIME_WAIT", "--color", "always")
    assert "\x1b[" not in _run("TIME_WAIT", "--color", "never")


def test_an_unknown_word_is_a_usage_error_with_the_nearest_names() -> None:
    with pytest.raises(UsageError) as caught:
        _run("clsoe_wait")
    assert "CLOSE_WAIT" in caught.value.next_step


@pytest.mark.parametrize("words", [("--live",), ("flags", "--live"), ("nginx", "--live")])
def test_live_is_for_states_and_rules(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--live is for states and rules"):
        _run(*words)


def test_live_states_and_rules_look_at_this_host() -> None:
    assert "On this host now" in _run("ESTABLISHED", "--live")
    assert "On this host now" in _run("close-wait-leak", "--live")
    assert "On this host now" not in _run("ESTABLISHED")


def test_step_needs_a_terminal_and_a_scenario() -> None:
    with pytest.raises(UsageError, match="--step needs a terminal"):
        _run("last-ack-lost", "--step")
    with pytest.raises(UsageError, match="--step is for scenarios"):
        _run("TIME_WAIT", "--step")


def test_importing_the_command_is_cheap() -> None:
    code = (
        "import sys, twdiag.cli.explain as e;"
        "print([m for m in sys.modules if m.startswith(('rich', 'twdiag.explain', 'twdiag.rules',"
        " 'twdiag.software', 'pyroute2', 'psutil'))])"
    )
    # typer may bring rich itself; what matters is what this module adds.
    bare = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, typer; print([m for m in sys.modules if m[:4]=='rich'])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [m for m in eval(done.stdout) if m not in eval(bare) and "cli" not in m] == []


# JSON.


def test_the_index_as_json_has_the_model() -> None:
    value = json.loads(_run("--json"))
    assert value["schema"] == "twdiag-explain/1"
    assert {page["kind"] for page in value["pages"]} == {
        "state",
        "scenario",
        "topic",
        "myth",
        "rule",
        "software",
    }
    model = value["model"]
    assert model["time_wait_seconds"] == 60
    assert [state["name"] for state in model["states"]] == [state.name for state in State]
    assert len(model["transitions"]) == len(TRANSITIONS)
    assert [step["segment"] for step in model["ordinary_close"]] == [
        "FIN,ACK",
        "ACK",
        "FIN,ACK",
        "ACK",
    ]


def test_a_state_as_json() -> None:
    value = json.loads(_run("close-wait", "--json"))
    assert value["page"]["name"] == "CLOSE_WAIT"
    assert value["state"]["role"] == "passive closer"
    assert value["state"]["step"] == 2
    assert "LAST_ACK" in {way["after"] for way in value["state"]["ways_out"]}
    kinds = {block["type"] for block in value["page"]["body"]}
    assert kinds == {"drawing", "item", "heading", "text", "code", "command"}
    assert "now" not in value


def test_live_as_json() -> None:
    value = json.loads(_run("close-wait", "--live", "--json"))
    assert value["now"][0]["text"].startswith("On this host now")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_scenario_as_json_can_be_replayed(story: object) -> None:
    name = story.name  # type: ignore[attr-defined]
    value = json.loads(_run(name, "--json"))["scenario"]
    now = dict(value["start"])
    for step in value["steps"]:
        for move in step["moves"]:
            assert now[move["side"]] == move["before"]
            assert (move["before"], move["event"], move["after"]) in LEGAL
            now[move["side"]] = move["after"]
        if "power" in step["text"] or step["text"] == "the server is up again":
            now = {"left": step["left"], "right": step["right"]}
        assert (now["left"], now["right"]) == (step["left"], step["right"])


# Step by step.


@cache
def _page(story: Story) -> Page:
    return Library().find(story.name)


def _walked(keys: str) -> list[int]:
    """Return which frames a reader sees who presses these keys."""
    story = find_story("four-way-close")
    assert story is not None
    seen = []

    def show(lines: list[SetLine]) -> None:
        place = re.search(r"(\d+)/\d+  ", lines[-1].text)
        assert place is not None
        seen.append(int(place[1]))

    presses = iter(keys)
    walk(_page(story), story, show, lambda: next(presses), ascii=False)
    assert next(presses, None) is None
    return seen


def test_keys_go_forward_back_and_out() -> None:
    assert _walked(" nbq") == [0, 1, 2, 1]
    assert _walked("bb q") == [0, 0, 0, 1]
    assert _walked(" " * 8) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_frame_shows_the_chart_so_far_with_its_reason_and_fits_the_terminal() -> None:
    for story in STORIES:
        for at in range(len(played(story).steps) + 1):
            lines = frame(_page(story), story, at, ascii=True, height=24)
            assert len(lines) < 24
            assert all(len(line.text) <= 80 for line in lines)
    ordinary = find_story("four-way-close")
    assert ordinary is not None
    text = "\n".join(
        line.text for line in frame(_page(ordinary), ordinary, 2, ascii=False, height=24)
    )
    assert "1  FIN,ACK" in text
    assert "2  ACK" not in text
    assert "now client: FIN_WAIT1, server: CLOSE_WAIT" in text
    assert "recv() returns 0" in " ".join(text.split())


class _Terminal:
    """A program on a terminal of 80x24 of its own."""

    def __init__(self, *words: str, **environ: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "COLUMNS": "80", "LINES": "24", **environ})
            os.execv(sys.executable, [sys.executable, "-c", _PROGRAM, *words])
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Read until these words are on the terminal."""
        end = time.monotonic() + 20
        while words not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert words in self.text, self.text

    def press(self, keys: bytes) -> None:
        self.text = ""
        os.write(self.fd, keys)

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.fd)

    def end(self) -> int:
        """Wait for the program and return its exit status."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@pytest.mark.parametrize(("last", "status"), [(b"q", 0), (b"\x03", 130)], ids=["q", "Ctrl-C"])
def test_the_terminal_is_restored(last: bytes, status: int) -> None:
    terminal = _Terminal("four-way-close", "--step")
    before = terminal.modes()
    terminal.wait_for("0/7")
    during = terminal.modes()
    assert isinstance(during[3], int)
    assert not during[3] & termios.ICANON
    terminal.press(b" ")
    terminal.wait_for("1/7")
    terminal.press(b"\x1b[C")
    terminal.wait_for("2/7")
    terminal.press(b"b")
    terminal.wait_for("1/7")
    after = None
    os.write(terminal.fd, last)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            after = terminal.modes()
        except termios.error:
            break
        if after == before:
            break
        time.sleep(0.01)
    assert after == before
    assert terminal.end() == status


def test_it_is_paged_on_a_terminal_only() -> None:
    paged = _Terminal("TIME_WAIT", PAGER="sed s/^/PAGED:/")
    paged.wait_for("PAGED:")
    paged.end()
    plain = _Terminal("TIME_WAIT", "--no-pager", PAGER="sed s/^/PAGED:/")
    plain.wait_for("Rests on")
    assert "PAGED" not in plain.text
    plain.end()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "TIME_WAIT"],
        env={**os.environ, "PAGER": "sed s/^/PAGED:/"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PAGED" not in done.stdout


def test_a_dumb_terminal_gets_ascii_and_no_pager() -> None:
    terminal = _Terminal("TIME_WAIT", PAGER="sed s/^/PAGED:/", TERM="dumb")
    terminal.wait_for("Rests on")
    assert terminal.text.isascii()
    assert "you are here ==> TIME_WAIT" in terminal.text
    assert "PAGED" not in terminal.text
    assert "\x1b" not in terminal.text
    terminal.end()


def test_a_pager_that_is_not_there_does_no_harm() -> None:
    terminal = _Terminal("TIME_WAIT", PAGER="/nonexistent/pager")
    terminal.wait_for("Rests on")
    assert terminal.end() == 0
