"""The live screen in a real terminal: what it shows at any size, its keys, and how it leaves."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.pseudo import Pseudo, watch
from tests.engine import endings
from tests.engine.privately import TRACEFS, in_private, needs_tracefs

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from tests.cli.pseudo import Emulator

PORT: Final = 7400
OTHER: Final = 7401
ENDED: Final = f"server 127.0.0.1:{PORT}"


def close_some(listener: socket.socket, number: int) -> None:
    """Close some connections, the server first."""
    for _ in range(number):
        client, server = endings.connected(listener)
        server.close()
        client.recv(1)
        client.close()


@contextlib.contextmanager
def traffic() -> Iterator[socket.socket]:
    """Have two servers that have closed connections; yields the listener of the first."""
    with endings.listen(PORT) as one, endings.listen(OTHER) as other:
        close_some(one, 7)
        close_some(other, 5)
        yield one


def test_a_key_that_is_pressed_before_anything_is_shown_is_not_lost() -> None:
    with watch() as terminal:
        terminal.type("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (60, 15), (200, 50), (40, 10)])
def test_it_fills_a_terminal_of_any_size_and_no_more(columns: int, lines: int) -> None:
    def work() -> list[str]:
        with traffic(), watch(columns=columns, lines=lines) as terminal:
            return terminal.wait_for_text("TIME_WAIT 12", "BUDGETS", "q quit")

    rows = in_private(work)
    assert re.match(r"(OK|NOTICE)  (?=.*UTC)", rows[0])
    assert rows[-1].startswith(" q quit")
    if lines >= 15:
        assert any(ENDED in row for row in rows)
    if lines >= 24:
        assert any(row.startswith(" PER SECOND") for row in rows)
        assert any(row.startswith("WHO CLOSES  not seen: --source none") for row in rows)


def test_it_follows_another_size() -> None:
    def work() -> tuple[list[str], list[str]]:
        with traffic(), watch() as terminal:
            terminal.wait_for_text(ENDED)
            terminal.resize(60, 15)
            small = terminal.wait_for(lambda s: s.rows[-1].startswith(" q quit") and s.rows[0])
            terminal.resize(100, 30)
            return small, terminal.wait_for(lambda s: s.rows[-1].startswith(" q quit"))

    small, large = in_private(work)
    assert not any(row.startswith(" PER SECOND") for row in small)
    assert any(row.startswith(" PER SECOND") for row in large)
    assert any(ENDED in row for row in large)


def test_only_lines_that_change_are_written() -> None:
    def work() -> tuple[int, int, int]:
        with watch() as terminal:
            terminal.wait_for_text("q quit")
            terminal.wait_for(lambda s: "0" in s.rows[4])  # rates: the second frame is shown
            before, first = len(terminal.written), terminal.written.count(b"\x1b[24;1H")
            shown = set()
            # The clock stands in the first line: four other seconds are at least four frames.
            terminal.wait_for(lambda s: shown.add(s.rows[0][:20]) or len(shown) > 4)
            last = terminal.written.count(b"\x1b[24;1H")
            return before, (len(terminal.written) - before) // 4, last - first

    whole, each, keys_again = in_private(work)
    assert keys_again == 0
    assert each < whole * 2  # a second has ten frames: each is a fifth of the first, or less


def test_pausing_lets_the_screen_stand_still() -> None:
    def work() -> tuple[bool, bool]:
        with traffic() as listener, watch() as terminal:
            terminal.wait_for_text("TIME_WAIT 12 ")
            terminal.type(" ")
            terminal.wait_for_text("PAUSED")
            close_some(listener, 3)
            # Keys are heard meanwhile: by the time the page was open and closed, frames went by.
            terminal.type("?")
            terminal.wait_for_text("COLUMNS", "SETTLES")
            terminal.type("x")
            still = terminal.wait_for_text("PAUSED", "TIME_WAIT 12 ")
            terminal.type(" ")
            rows = terminal.wait_for_text("TIME_WAIT 15 ")
            return any("PAUSED" in row for row in still), any("PAUSED" in row for row in rows)

    assert in_private(work) == (True, False)


def test_a_filter_shows_only_rows_with_a_text() -> None:
    def work() -> list[list[str]]:
        with traffic(), watch() as terminal:
            found = [terminal.wait_for_text(ENDED, f"server 127.0.0.1:{OTHER}")]
            terminal.type("/74x")
            terminal.wait_for_text("/74x_")
            terminal.type("\x7f01\r")
            found.append(terminal.wait_for_text("only '7401'", f"server 127.0.0.1:{OTHER}"))
            terminal.type("\x1b")
            found.append(terminal.wait_for_text(ENDED))
            return found

    _, filtered, all_again = in_private(work)
    assert not any(ENDED in row or "TIME_WAIT table" in row for row in filtered)
    assert any("TIME_WAIT table" in row for row in all_again)


def test_enter_explains_the_selected_row() -> None:
    def work() -> tuple[list[str], list[str]]:
        with traffic(), watch() as terminal:
            terminal.wait_for_text(ENDED)
            terminal.type("G")
            terminal.wait_for(lambda s: any(r.startswith("> server") for r in s.rows))
            terminal.type("\r")
            page = terminal.wait_for_text("WHOSE CONNECTIONS END: server", "any key: back")
            terminal.type("x")
            return page, terminal.wait_for_text("q quit")

    page, back = in_private(work)
    assert any("twdiag trace --port 74" in row for row in page)
    assert any(row.startswith("> server") for row in back)


def test_arrows_move_and_the_selected_row_is_always_shown() -> None:
    def work() -> list[str]:
        with traffic(), watch(columns=60, lines=10) as terminal:
            terminal.wait_for_text("> TIME_WAIT table")
            terminal.type("\x1b[B\x1b[A\x1b[B\x1bOB")
            return terminal.wait_for(
                lambda s: any(f"> server 127.0.0.1:{OTHER}" in r for r in s.rows)
            )

    assert in_private(work)


def test_without_colour_nothing_is_styled() -> None:
    def work() -> tuple[bool, bool, bool]:
        found = []
        for words, environ in (((), {}), ((), {"NO_COLOR": "1"}), (("--color", "never"), {})):
            with traffic(), watch(*words, **environ) as terminal:  # type: ignore[arg-type]
                terminal.wait_for_text(ENDED)
                terminal.wait_for_text("q quit")
                terminal.type("q")
                terminal.end()
                found.append(terminal.screen.styled)
        return found[0], found[1], found[2]

    assert in_private(work) == (True, False, False)


@pytest.mark.parametrize(("words", "environ"), [((), {"LC_ALL": "C"}), (("--ascii",), {})])
def test_without_utf_8_every_byte_is_ascii(words: tuple[str, ...], environ: dict[str, str]) -> None:
    def work() -> bytes:
        with traffic(), watch(*words, **environ) as terminal:  # type: ignore[arg-type]
            terminal.wait_for_text(ENDED)
            terminal.type("q")
            terminal.end()
            return terminal.written

    written = in_private(work)
    assert written.isascii()
    assert b"@" in written  # the history, in characters that every terminal has


def test_with_utf_8_the_history_has_bars() -> None:
    def work() -> list[str]:
        with traffic(), watch() as terminal:
            return terminal.wait_for_text("█", "q quit")

    assert in_private(work)


@pytest.mark.parametrize("how", ["q", "\x03", "\x04", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_terminal_is_as_it_was_found(how: str | signal.Signals) -> None:
    def work() -> tuple[object, ...]:
        with traffic(), watch() as terminal:
            terminal.wait_for_text("q quit", "TIME_WAIT 12 ")
            changed = terminal.attributes() != terminal.found
            hidden = terminal.screen.other_screen and terminal.screen.cursor_hidden
            if isinstance(how, str):
                terminal.type(how)
            else:
                terminal.signal(how)
            code = terminal.end()
            screen = terminal.screen
            left = not screen.other_screen and not screen.cursor_hidden
            same = terminal.attributes() == terminal.found
            return changed, hidden, code, left, same, screen.rows

    changed, hidden, code, left, same, rows = in_private(work)
    assert (changed, hidden) == (True, True)
    assert (code, left, same) == (0, True, True)
    assert any(row.startswith("Watched for") and "TIME_WAIT 12" in row for row in rows)


def test_a_terminal_that_is_gone_ends_it() -> None:
    def work() -> int:
        with watch() as terminal:
            terminal.wait_for_text("q quit")
            terminal.hang_up()
            return terminal.process.wait(30)

    assert in_private(work) in (0, 3)


def test_ctrl_z_and_fg_leave_the_terminal_sane() -> None:
    if shutil.which("bash") is None:
        pytest.skip("job control needs a shell")

    def work() -> tuple[bool, bool, bool, int]:
        bash = ("bash", "--norc", "--noprofile", "-i")
        with traffic(), Pseudo(*bash, environ={"PS1": "$ ", "HISTFILE": ""}) as terminal:
            terminal.type(f"'{sys.executable}' -m twdiag watch --interval 0.1 --source none\n")
            terminal.wait_for_text(ENDED)
            terminal.type("\x1a")
            terminal.wait_for(lambda s: not s.other_screen)
            terminal.wait_for_text("Stopped")
            # The shell echoes by itself; stty tells what a program finds.
            terminal.type(
                "stty -a | tr ' ;' '\\n\\n' | grep -xE -- '-?(icanon|echo)' | xargs echo is\n"
            )
            terminal.wait_for_text("is icanon echo")
            shown = not terminal.screen.cursor_hidden
            terminal.type("fg\n")
            terminal.wait_for(lambda s: s.other_screen and s.rows[-1].startswith(" q quit"))
            again = any(ENDED in row for row in terminal.wait_for_text(ENDED))
            terminal.type("q")
            terminal.wait_for(lambda s: not s.other_screen)
            terminal.type("echo code $?\n")
            rows = terminal.wait_for(lambda s: any(re.match(r"code \d", r) for r in s.rows))
            codes = [int(row[5:]) for row in rows if re.match(r"code \d", row)]
            terminal.type("exit\n")
            return shown, again, not terminal.screen.cursor_hidden, codes[0]

    assert in_private(work) == (True, True, True, 0)


@pytest.mark.parametrize("how", ["q", "\x03", signal.SIGTERM])
def test_the_tracing_instance_goes_with_the_screen(how: str | signal.Signals) -> None:
    needs_tracefs()

    def instances(pid: int) -> int:
        names = os.listdir(f"{TRACEFS}/instances")
        return sum(name.startswith(f"twdiag-{pid}-") for name in names)

    def work() -> tuple[int, int, int]:
        with traffic() as listener, watch("--source", "tracefs", "--port", str(PORT)) as terminal:
            terminal.wait_for_text(ENDED)
            during = instances(terminal.process.pid)

            def named(screen: Emulator) -> bool:
                close_some(listener, 1)  # what ended before the instance was there is not told
                return any("(pid" in row and f"on :{PORT}" in row for row in screen.rows)

            terminal.wait_for(named)
            if isinstance(how, str):
                terminal.type(how)
            else:
                terminal.signal(how)
            return during, terminal.end(), instances(terminal.process.pid)

    assert in_private(work, tracefs=True) == (1, 0, 0)


def test_a_stop_that_cannot_be_heard_is_followed_by_a_whole_screen() -> None:
    def work() -> bool:
        with traffic(), watch() as terminal:
            terminal.wait_for_text(ENDED)
            terminal.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED)
            terminal.screen.resize(80, 24)  # a shell has written over it
            terminal.signal(signal.SIGCONT)
            return bool(terminal.wait_for_text(ENDED, "q quit", "BUDGETS"))

    assert in_private(work)


def test_a_refusal_comes_before_the_screen() -> None:
    def work() -> tuple[int, bytes]:
        with watch("--netns", "no-such-container") as terminal:
            code = terminal.end()
            return code, terminal.written

    code, written = in_private(work)
    assert code == 3
    assert b"no-such-container" in written
    assert b"\x1b" not in written


def test_without_a_keyboard_the_screen_is_shown_all_the_same() -> None:
    def work() -> tuple[bool, int]:
        command = f"exec '{sys.executable}' -m twdiag watch --count 3 --interval 0.3 --source none"
        with traffic(), Pseudo("sh", "-c", f"{command} </dev/null") as terminal:
            shown = bool(terminal.wait_for_text(ENDED, "q quit"))
            return shown, terminal.end()

    assert in_private(work) == (True, 0)


def test_it_ends_after_so_many_looks() -> None:
    def work() -> tuple[int, list[str]]:
        with traffic(), watch("--count", "2") as terminal:
            code = terminal.end()
            return code, terminal.screen.rows

    code, rows = in_private(work)
    assert code == 0
    assert rows[0].startswith("Watched for")


def test_what_stays_on_a_narrow_terminal_is_broken_between_words() -> None:
    def work() -> tuple[int, list[str]]:
        with traffic(), watch("--count", "2", columns=50) as terminal:
            return terminal.end(), terminal.screen.rows

    code, rows = in_private(work)
    assert code == 0
    assert rows[0].startswith("Watched for")
    assert "CLOSE_WAIT" in rows[0] + rows[1]
    assert rows[1].startswith("  ")
