"""Errors in lines of logs: each leads to what it means, and no other line to a wrong answer."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.explain.pasted import PASTED
from twdiag.errors import UsageError
from twdiag.explain.answers import line_page, lines_page, message_page
from twdiag.explain.as_json import page_as_json
from twdiag.explain.layout import set_page
from twdiag.explain.library import Library
from twdiag.explain.messages import (
    GROUPS,
    excerpt,
    found_in,
    messages,
    of_group,
    plain_words,
    port_in,
)
from twdiag.explain.page import Code, Command, Heading, Page, PageKind, Text
from twdiag.explain.screen import coloured, plain
from twdiag.rules import RULES
from twdiag.software import all_software

LIBRARY = Library(RULES, all_software())
ANY_LINE = st.text(max_size=400) | st.binary(max_size=400).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
MESSAGES = pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)


def names(line: str) -> list[str]:
    """Return the names of the errors that a line is told to have."""
    return [one.message.name for one in found_in(line)[:3]]


def shown(page: Page, width: int = 80) -> str:
    """Return a page as it is printed, in ASCII."""
    return plain(set_page(page, ascii=True, width=width))


def asked(line: str) -> UsageError | None:
    """Ask for a line, and return what is said where nothing explains it."""
    try:
        assert shown(LIBRARY.find(line))
    except UsageError as error:
        return error
    return None


def commands(page: Page) -> list[str]:
    return [block.command for block in page.body if isinstance(block, Command)]


@pytest.mark.parametrize(("line", "expected"), PASTED, ids=lambda value: str(value)[:50])
def test_each_line_of_a_log_leads_to_its_errors_and_to_no_other(
    line: str, expected: tuple[str, ...]
) -> None:
    assert sorted(names(line)) == sorted(expected)


@pytest.mark.parametrize(
    ("line", "expected"),
    [entry for entry in PASTED if entry[1]],
    ids=lambda value: str(value)[:50],
)
def test_quotes_and_a_prefix_around_a_line_change_nothing(
    line: str, expected: tuple[str, ...]
) -> None:
    if "--" in line or " -1 " in line:
        return  # HAProxy's and a load balancer's lines are told by their columns
    for wrapped in (f'"{line}"', f"[web1] 2026-05-04T03:12:09Z | {line}", line.upper()):
        assert set(expected) <= set(names(wrapped)), wrapped


@MESSAGES
def test_each_way_to_write_an_error_finds_it(message: object) -> None:
    for way in message.words:  # type: ignore[attr-defined]
        line = "web1: " + " ... ".join(part.strip() for part in way)
        found = [one.message for one in found_in(line)]
        assert message in found, line


@MESSAGES
def test_an_error_is_found_by_its_name(message: object) -> None:
    name = message.name  # type: ignore[attr-defined]
    assert name in {LIBRARY.find(name).name, *names(name)}


@MESSAGES
def test_the_answer_says_what_it_means_and_what_to_type_next(message: object) -> None:
    page = message_page(message)  # type: ignore[arg-type]
    assert any(isinstance(block, Text) and len(block.text) > 60 for block in page.body)
    outside = message.group == "outside"  # type: ignore[attr-defined]
    assert bool(commands(page)) is not outside
    if not outside:
        assert commands(page)[-1] == "twdiag explain error-messages"
        assert len(commands(page)) >= 2


@MESSAGES
def test_what_to_read_is_there_and_what_to_run_is_shell(message: object) -> None:
    for command in commands(message_page(message)):  # type: ignore[arg-type]
        assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0
        words = shlex.split(command)
        assert words[0] in {"twdiag", "ss", "ip", "nstat", "sysctl", "cat"}
        if words[:2] == ["twdiag", "explain"]:
            assert LIBRARY.find(words[2]).name == words[2]


@MESSAGES
def test_an_error_that_a_rule_finds_names_the_rule(message: object) -> None:
    told = message.shows + message.means  # type: ignore[attr-defined]
    rules = {rule.name for rule in RULES}
    looks_like_a_rule = set(re.findall(r"\b[a-z]+(?:-[a-z]+){2,}\b", message.shows))  # type: ignore[attr-defined]
    assert looks_like_a_rule <= rules, told


@MESSAGES
@pytest.mark.parametrize("width", [60, 80])
def test_the_answer_fits(message: object, width: int) -> None:
    for line in set_page(message_page(message), ascii=True, width=width):  # type: ignore[arg-type]
        assert len(line.text) <= width or line.style == "command"


def test_names_are_kebab_case_and_no_pages() -> None:
    found = [message.name for message in messages()]
    pages = {page.name for page in LIBRARY.pages}
    assert len(found) == len(set(found))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in found)
    assert not pages & set(found)


def test_the_page_lists_every_error_but_those_outside() -> None:
    text = " ".join(shown(LIBRARY.find("error-messages"), 200).split())
    for group in GROUPS[:-1]:
        for message in of_group(group):
            assert message.error.split(",")[0].split(" ")[0] in text


def test_the_number_of_an_error_finds_it_where_a_line_says_so() -> None:
    assert names("Can't connect to the server (111)") == ["econnrefused"]
    assert names("failed, errno=98") == ["eaddrinuse"]
    assert names("(os error 32)") == ["epipe"]
    assert names("took (32) ms") == []
    assert names("errno=0, errno 999") == []


def test_every_number_of_an_error_that_has_a_name_here_finds_it() -> None:
    named = {
        way[0].strip().upper() for message in messages() for way in message.words if len(way) == 1
    }
    for number, code in errno.errorcode.items():
        if code in named and number >= 10:
            assert names(f"failed, errno {number}"), code


# The port of a line stands in the command to type next.


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("bind() to 0.0.0.0:80 failed (98: Address already in use)", "twdiag port 80"),
        ("bind() to [::]:443 failed (98: Address already in use)", "twdiag port 443"),
        ("Error: listen EADDRINUSE: address already in use :::3000", "twdiag port 3000"),
        ("listen tcp :8081: bind: address already in use", "twdiag port 8081"),
        ("Bind for 0.0.0.0:81 failed: port is already allocated", "twdiag port 81"),
        ("listening socket *:6379: bind: Address already in use", "twdiag port 6379"),
        ("Web server failed to start. Port 9090 was already in use.", "twdiag port 9090"),
        ("bind on address ('0.0.0.0', 8000): address already in use", "twdiag port 8000"),
        ('bind on address ("0.0.0.0", 81): address already in use', "twdiag port 81"),
        (
            "upstream prematurely closed connection, client: 10.0.0.9:4711, upstream: "
            '"http://10.0.0.5:9000/", host: "shop:443"',
            "twdiag trace --port 9000 --for 60s",
        ),
        (
            "read tcp 10.0.0.1:51234->10.0.0.5:90: http: server closed idle connection",
            "twdiag trace --port 90 --for 60s",
        ),
        # HAProxy's line begins with the port of its client; several may be anything.
        (
            "haproxy[77]: 10.0.0.9:33317 [06/Feb/2026:12:14:14.655] in app/s1 10/0/30/69/109 502 "
            "2750 - - SH-- 1/1/1/1/0 0/0",
            "twdiag trace --port 8080 --for 60s",
        ),
        ("10.0.0.1:81, 10.0.0.2:82: address already in use", "twdiag port 8080"),
        ("03:12:09 10.0.0.1:99999 address already in use", "twdiag port 8080"),
    ],
)
def test_the_port_that_a_line_is_about_stands_in_the_command(line: str, command: str) -> None:
    page = LIBRARY.find(line)
    assert commands(page)[0] == command
    assert ("your port" in shown(page) or "its port" in shown(page)) is ("8080" in command)


@settings(max_examples=200, deadline=None)
@given(ANY_LINE)
def test_a_port_is_one_that_the_line_has(line: str) -> None:
    port = port_in(line)
    assert port is None or (0 < port < 65_536 and str(port) in line)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 65_535), st.sampled_from(["0.0.0.0:{}", "[::1]:{}", "port {}", "*:{}"]))
def test_each_way_to_write_a_port_is_read(port: int, way: str) -> None:
    assert port_in(f"03:12:09 bind: {way.format(port)}: address already in use") == port


def test_a_command_that_two_errors_share_is_shown_once() -> None:
    page = LIBRARY.find("Connection timed out")
    assert commands(page).count("twdiag diagnose") == 1
    assert {"syn-unanswered", "accept-queue-full", "data-unanswered"} <= set(
        re.findall(r"[a-z-]+", shown(page))
    )


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("TWDIAG CRITICAL - java (pid 4) has 256 of 256 descriptors open | a=1", "twdiag diagnose"),
        ("** PROBLEM Service Alert: web1/TWDIAG is WARNING **", "twdiag diagnose"),
        ("TWDIAG UNKNOWN - sock_diag is not allowed", "twdiag doctor"),
    ],
)
def test_the_line_of_an_alert_leads_to_the_report_of_its_host(line: str, command: str) -> None:
    page = LIBRARY.find(line)
    assert commands(page)[0] == command
    assert "on that host" in shown(page)


# Lines that nobody has read before.


@settings(max_examples=150, deadline=None)
@given(before=ANY_LINE, behind=ANY_LINE)
def test_an_error_is_found_in_whatever_stands_around_it(before: str, behind: str) -> None:
    line = f"{before} connection reset by peer {behind}"
    found = {one.message.name: one for one in found_in(line)}
    assert found
    if "econnreset" in found:
        one = found["econnreset"]
        assert "reset" in line[one.start : one.end].casefold()


@settings(max_examples=150, deadline=None)
@given(before=ANY_LINE, behind=ANY_LINE)
def test_what_is_quoted_is_inert_and_fits(before: str, behind: str) -> None:
    line = f"{before} broken pipe {behind}"
    page = line_page(line, found_in(line))
    for block in page.body:
        if isinstance(block, Code):
            assert all(c.isprintable() or c == "\u00a0" for c in block.lines[0])
    text = shown(page)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    plain(set_page(page, ascii=False)).encode()
    json.dumps(page_as_json(page)).encode()


@settings(max_examples=150, deadline=None)
@given(ANY_LINE)
def test_any_line_gets_an_answer_or_a_next_step(line: str) -> None:
    refused = asked(line)
    assert refused is None or (refused.next_step and len(refused.what) < 1000)


@settings(max_examples=100, deadline=None)
@given(ANY_LINE, st.integers(20, 90))
def test_a_quote_holds_the_error_and_never_more_than_asked_for(line: str, most: int) -> None:
    whole = f"{line} EPIPE {line}"
    one = next(one for one in found_in(whole) if one.message.name == "epipe")
    quoted = excerpt(whole, one, most)
    assert len(quoted) <= most
    assert "EPIPE" in quoted or whole.index("EPIPE") != one.start


@given(st.lists(st.sampled_from([line for line, _ in PASTED]), min_size=2, max_size=30))
@settings(max_examples=50, deadline=None)
def test_many_lines_are_counted_by_their_errors(lines: list[str]) -> None:
    expected = [name for line in lines for name in dict(PASTED)[line]]
    if not expected:
        with pytest.raises(UsageError, match="no error that is known here"):
            lines_page(lines)
        return
    page = lines_page(lines)
    said = [block.text for block in page.body if isinstance(block, Heading)]
    counted = sum(int(text.split()[0]) for text in said if text != "Next")
    assert counted == len(expected)
    assert {f"twdiag explain {name}" for name in expected} <= set(commands(page))


def test_a_line_of_100_kb_takes_little_more_than_reading_it() -> None:
    junk = "GET /items/4711 took 12 ms, connect to bind, unix failed 104 " * 1700
    line = f"{junk} (104: Connection reset by peer) {junk}"
    assert len(line) > 200_000
    began = time.process_time()
    found = names(line)
    took = time.process_time() - began
    assert found[0] == "econnreset"
    page = line_page(line, found_in(line))
    assert "Connection reset by peer" in shown(page)
    began = time.process_time()
    len(re.findall(r"\w+", line.casefold()))
    once = time.process_time() - began
    assert took < 100 * max(once, 0.005)


def test_control_characters_and_markup_stay_letters() -> None:
    line = "\x1b[31mapp[bold]\x07: Connection refused\r\n\u202e [/bold]"
    page = line_page(line, found_in(line))
    text = plain(set_page(page, ascii=False))
    assert "\x1b" not in text
    assert "\\x1b[31mapp[bold]\\x07: Connection refused" in text
    assert "[bold]" in re.sub(r"\x1b\[[0-9;]*m", "", coloured(set_page(page, ascii=False)))


def test_a_stack_trace_is_quoted_on_one_line() -> None:
    trace = "java.net.ConnectException\n\tat App.main\r\nCaused by: Connection refused\n\tat x"
    page = line_page(trace, found_in(trace))
    assert "Caused by: Connection refused" in shown(page)
    assert "\\x0" not in shown(page)


def test_the_index_says_that_lines_are_answered() -> None:
    assert b"'LINE OF A LOG'" in run().stdout


def test_a_line_that_may_mean_two_errors_gets_both() -> None:
    page = LIBRARY.find("OSError: [Errno 99] Cannot assign requested address")
    assert page.kind is PageKind.MESSAGE
    headings = [block.text for block in page.body if isinstance(block, Heading)]
    assert headings == ["EADDRNOTAVAIL from connect()", "EADDRNOTAVAIL from bind()", "Next"]
    assert commands(page)[-1] == "twdiag explain error-messages"


def test_a_long_line_without_an_error_is_not_taken_for_a_misspelt_name() -> None:
    with pytest.raises(UsageError) as caught:
        LIBRARY.find("all is well here and nobody has closed anything " * 2000)
    assert len(caught.value.what) < 200
    assert caught.value.next_step == "all that are: twdiag explain error-messages"


def test_a_misspelt_error_gets_the_near_one() -> None:
    with pytest.raises(UsageError, match="no explanation") as caught:
        LIBRARY.find("ECONREFUSED")
    assert "econnrefused" in caught.value.next_step


def test_words_are_told_apart_from_the_letters_that_they_are_made_of() -> None:
    assert plain_words("request_sock_TCP: Can't") == " request sock tcp can t "
    assert names("PIPEPIPER EPIPELINE brokenpipe") == []


# At the command line.


def run(*words: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "twdiag", "explain", *words],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
    )


def test_lines_are_read_from_a_pipe() -> None:
    lines = [line for line, _ in PASTED]
    done = run("-", stdin="\n".join(lines).encode())
    assert done.returncode == 0
    assert b"6 lines: ECONNRESET" in done.stdout or b"lines: ECONNRESET" in done.stdout
    assert b"twdiag explain error-messages" in done.stdout
    assert done.stderr == b""


def test_one_line_from_a_pipe_is_explained_as_if_it_were_asked_for() -> None:
    line = "\nread: Connection reset by peer\n\n"
    assert run("-", stdin=line.encode()).stdout == run(line.strip()).stdout


def test_bytes_that_are_no_text_are_escaped() -> None:
    done = run("-", stdin=b"\xff\xfe\x1b[2J broken pipe\n" * 2)
    assert done.returncode == 0
    assert b"\\x1b[2J broken pipe" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"\xff" not in done.stdout


@pytest.mark.parametrize("stdin", [b"", b"\n \n", b"all is well\nand so is this\n"])
def test_lines_without_an_error_say_what_to_do(stdin: bytes) -> None:
    done = run("-", stdin=stdin)
    assert done.returncode == 3
    assert done.stdout == b""
    assert b"twdiag explain" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_answer_as_json() -> None:
    value = json.load(io.BytesIO(run("(104: Connection reset by peer)", "--json").stdout))
    assert value["page"]["kind"] == "message"
    assert value["page"]["name"] == "econnreset"
    assert [block["type"] for block in value["page"]["body"]][:3] == ["code", "item", "text"]


def test_a_line_that_begins_with_a_dash_goes_behind_two() -> None:
    line = "-ERR max number of clients reached"
    refused = run(line)
    assert refused.returncode == 3
    assert b"twdiag explain -- '-ERR ...'" in refused.stderr
    assert b"Too many connections" in run("--", line).stdout
    assert b"did you mean --live?" in run("--lvie").stderr


def test_a_closed_stdin_has_no_lines() -> None:
    command = f"{shlex.quote(sys.executable)} -m twdiag explain - <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 3
    assert b"no line to explain" in done.stderr
