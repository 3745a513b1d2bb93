"""The pages: complete, linked, cited, and whole at 80 columns in every kind of output."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess

import pytest

from tests.explain.concepts import CONCEPTS, NOWHERE, STATEMENTS, Concept, Statement
from twdiag.errors import UsageError
from twdiag.explain.layout import set_blocks, set_index, set_page
from twdiag.explain.library import FOLDER, Library
from twdiag.explain.page import (
    Code,
    Command,
    Drawing,
    Heading,
    Page,
    PageBlock,
    PageKind,
    PageTable,
    Term,
    Text,
)
from twdiag.explain.screen import coloured, plain
from twdiag.lab import find
from twdiag.rules import RULES
from twdiag.software import all_software
from twdiag.tcp import State

LIBRARY = Library(RULES, all_software())
ALL = LIBRARY.pages
PAGES = pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
MYTHS = pytest.mark.parametrize(
    "page", [p for p in ALL if p.kind is PageKind.MYTH], ids=lambda page: page.name
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _words(page: Page) -> str:
    """Return a page's text in ASCII on one line."""
    return re.sub(r"\s+", " ", plain(set_page(page, ascii=True)))


def _flat(page: Page) -> str:
    """Return a page's text with the runs of blanks of its drawings kept."""
    return plain(set_page(page, ascii=True))


def _rows(page: Page) -> str:
    """Return the rows of a page's tables, a line for each: on the page long cells are wrapped."""
    tables = (block for block in page.body if isinstance(block, PageTable))
    return "\n".join(" | ".join(row) for table in tables for row in table.rows)


def _says(page: Page, pattern: str) -> bool:
    """Return whether the pattern is found in a page's words, its lines as drawn, or its tables."""
    return bool(
        re.search(pattern, _words(page))
        or re.search(pattern, _flat(page), re.DOTALL)
        or re.search(pattern, _rows(page))
    )


@pytest.mark.parametrize(
    "concept", CONCEPTS, ids=lambda c: f"{''.join(map(str, c.notes))}-{c.what[:40]}"
)
def test_every_concept_of_the_notes_is_explained(concept: Concept) -> None:
    page = LIBRARY.find(concept.page)
    assert _says(page, concept.pattern), f"{concept.page} says nothing of: {concept.what}"


def test_every_note_is_in_the_table() -> None:
    assert {note for concept in CONCEPTS for note in concept.notes} == {1, 2, 3, 4, 5}
    assert len(CONCEPTS) == len({(c.notes, c.what) for c in CONCEPTS})


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: f"{s.page}-{s.what[:40]}")
def test_a_statement_has_its_condition(statement: Statement) -> None:
    page = LIBRARY.find(statement.page)
    assert page.name == statement.page
    assert _says(page, statement.pattern), f"{page.name} does not say: {statement.what}"


@pytest.mark.parametrize(("what", "pattern"), NOWHERE, ids=lambda value: value[:40])
def test_what_was_wrong_stands_on_no_page_again(what: str, pattern: str) -> None:
    assert not [page.name for page in ALL if _says(page, pattern)], what


def test_there_is_a_page_for_all_that_was_asked_for() -> None:
    names = {page.name for page in ALL}
    topics = """active-and-passive-closer why-four-segments why-the-first-fin-carries-ack
        why-time-wait how-long-is-time-wait half-close graceful-and-abrupt flags who-should-close
        ephemeral-ports recv-q fin-wait2-and-tcp-fin-timeout orphans nat-and-conntrack sysctls
        myths"""
    myths = """tcp-fin-timeout-shortens-time-wait tcp-tw-recycle tcp-tw-reuse-on-a-server
        time-wait-uses-descriptors lower-tcp-max-tw-buckets data-is-lost-without-time-wait
        final-ack-after-2msl"""
    assert {*topics.split(), *myths.split()} <= names
    assert {rule.name for rule in RULES} <= names
    assert sum(page.kind is PageKind.STATE for page in ALL) == len(State) == 11


def test_names_are_kebab_case_and_unique() -> None:
    names = [page.name for page in ALL]
    assert len(names) == len({re.sub(r"\W|_", "", name.lower()) for name in names})
    for page in ALL:
        if page.kind is not PageKind.STATE:
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", page.name)


@PAGES
def test_every_page_can_be_reached_from_the_index(page: Page) -> None:
    index = plain(set_index(LIBRARY.index, ascii=True))
    assert page.name in index.split()


@PAGES
def test_links_lead_to_other_pages(page: Page) -> None:
    assert set(page.see) <= {other.name for other in ALL} - {page.name}


@pytest.mark.parametrize(
    "page",
    [p for p in ALL if p.kind not in (PageKind.RULE, PageKind.SOFTWARE)],
    ids=lambda page: page.name,
)
def test_a_written_page_links_and_cites(page: Page) -> None:
    assert page.see
    assert page.cites


def test_the_index_has_every_written_page_once() -> None:
    files = sorted(path.stem for path in FOLDER.glob("*/*.md"))
    written = [p.name for p in ALL if p.kind not in (PageKind.RULE, PageKind.SOFTWARE)]
    assert sorted(written) == files


def test_other_words_for_a_page_are_no_names_and_mean_one_page() -> None:
    words = [
        re.sub(r"\W|_", "", word.casefold())
        for group in LIBRARY.index
        for entry in group.entries
        for word in (entry.name, *entry.aliases)
    ]
    assert sorted(words) == sorted(set(words))


@PAGES
@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("ascii", [False, True], ids=["unicode", "ascii"])
def test_it_fits(page: Page, ascii: bool, width: int) -> None:
    for line in set_page(page, ascii=ascii, width=width):
        # Commands, programs and addresses are of no use when they are broken.
        whole = line.style in ("command", "code") or "https://" in line.text
        # So is a setting that is longer than what its label leaves of the line.
        words = line.text.split()
        whole |= len(words) <= 2 and max(map(len, words), default=0) + len("    change: ") > width
        assert len(line.text) <= (80 if whole else min(width, 80)) or "https" in line.text
        assert line.text == line.text.rstrip()
        if ascii:
            assert line.text.isascii()


def test_no_short_word_is_left_alone_below_a_paragraph() -> None:
    text = "Data that comes for a connection that nobody has any more is answered with a RST it"
    for width in range(40, 82):
        lines = [line.text for line in set_blocks([Text(text)], width=width)]
        assert " ".join(" ".join(lines).split()) == text
        assert max(map(len, lines)) <= width
        assert len(lines[-1].split()) > 1


@PAGES
def test_colours_change_no_character(page: Page) -> None:
    lines = set_page(page, ascii=False)
    painted = coloured(lines)
    assert _ANSI.sub("", painted) == plain(lines)
    assert painted != plain(lines)


@PAGES
def test_no_word_is_cut(page: Page) -> None:
    text = _words(page).split()
    for block in page.body:
        if isinstance(block, Drawing):
            continue
        if isinstance(block, Term):
            said = f"{block.term} {block.text}"
        elif isinstance(block, Command):
            said = f"{block.command} {block.shows}"
        elif isinstance(block, Code):
            said = " ".join(block.lines)
        elif isinstance(block, PageTable):
            continue
        else:
            said = block.text
        words = said.encode("ascii", "replace").decode().split()
        joined = " ".join(text)
        assert " ".join(words) in joined


@pytest.mark.parametrize(
    "page",
    [p for p in ALL if p.kind not in (PageKind.RULE, PageKind.SOFTWARE)],
    ids=lambda page: page.name,
)
def test_the_page_speaks_ascii_and_has_no_markup_left(page: Page) -> None:
    assert _words(page).isascii()
    for block in page.body:
        if isinstance(block, Text):
            assert not block.text.startswith(("## ", "= ", "$ ", "- "))


@MYTHS
def test_a_myth_has_its_evidence_and_how_to_see_it(page: Page) -> None:
    headings = [block.text for block in page.body if isinstance(block, Heading)]
    assert [text for text in headings if text != "What to do instead"] == [
        "Often said",
        "True",
        "See it on this host",
    ]
    assert any(isinstance(block, Command) for block in page.body)
    assert any(
        re.match(r"RFC \d+|measured on Linux|Linux \d|[\w/_]+\(\) in|TCP_TIMEWAIT_LEN|net/", cite)
        for cite in page.cites
    )


def test_the_list_of_myths_names_every_myth() -> None:
    listed = _words(LIBRARY.find("myths"))
    for page in ALL:
        if page.kind is PageKind.MYTH:
            assert f"{page.name}: " in listed


COMMANDS = [
    (page.name, block.command) for page in ALL for block in page.body if isinstance(block, Command)
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value[:40])
def test_commands_are_shell_and_use_what_a_host_has(page: str, command: str) -> None:
    assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0, page
    words = shlex.split(command.removeprefix("sudo "))
    known = {"ss", "sysctl", "nstat", "cat", "twdiag", "grep", "ls", "tcpdump"}
    if page == "find-the-line":
        known |= {"py-spy", "jcmd", "curl", "kill", "dotnet-stack", "rbspy", "gdb", "eu-stack"}
        known |= {"strace"}
    if page == "nat-and-conntrack":
        known |= {"conntrack"}  # its entries are in no file that every kernel has
    if page == "error-messages":
        known |= {"journalctl"}
    if page == "old-process-after-reload":
        known |= {"ps"}
    assert words[0] in known, page
    if words[0] == "twdiag":
        assert words[1] in {"diagnose", "explain", "lab", "port", "trace"}
        if words[1] == "explain":
            LIBRARY.find(words[2])
        if words[1] == "lab":
            assert find(words[3]) is not None


@pytest.mark.parametrize(
    ("page", "command"),
    [(page, command) for page, command in COMMANDS if command.startswith("nstat")],
    ids=lambda value: value[:40],
)
def test_counters_in_commands_exist_in_this_kernel(page: str, command: str) -> None:
    words = command.split("|")[0].split()
    known = set()
    for name in ("netstat", "snmp"):
        with open(f"/proc/net/{name}", encoding="ascii") as file:
            lines = file.read().splitlines()
        for head in lines[::2]:
            prefix, *counters = head.split()
            known |= {prefix.removesuffix(":") + counter for counter in counters}
    # Linux 6.12 and 6.18 have them all; older kernels may lack some.
    assert {word for word in words[1:] if not word.startswith("-")} <= known, page


# The pages of the states show what is seen of each, and what to do.

_ROWS_HEADING = "As `ss -tanop` shows it"
_SS_ROW = re.compile(r"(?:[A-Z-]+ +)?\d+ +\d+ +[\d.]+:\d+ +[\d.]+:[\d*]+")


def _below(page: Page, heading: str) -> list[PageBlock]:
    """Return the blocks of a page below a heading, up to the next one."""
    at = page.body.index(Heading(heading))
    return list(itertools.takewhile(lambda b: not isinstance(b, Heading), page.body[at + 1 :]))


def _lines(blocks: list[PageBlock]) -> list[str]:
    return [line for block in blocks if isinstance(block, Code) for line in block.lines]


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSE])
def test_the_page_of_a_state_has_rows_of_ss(state: State) -> None:
    head, *rows = _lines(_below(LIBRARY.find(state.name), _ROWS_HEADING))
    assert head.split()[-4:] == ["Recv-Q", "Send-Q", "Local", "Peer"]
    assert any(_SS_ROW.fullmatch(row) for row in rows)
    for row in rows:
        assert _SS_ROW.fullmatch(row) or re.match(r" +(users:\(\(|timer:\()", row), row


def test_close_wait_shows_wrong_and_right_code_and_the_way_to_the_line() -> None:
    page = LIBRARY.find("CLOSE_WAIT")
    blocks = _below(page, "Wrong and right")
    wrong, right = (
        next(i for i, b in enumerate(blocks) if isinstance(b, Text) and b.text.startswith(word))
        for word in ("Wrong", "Right")
    )
    assert wrong < right
    wrong_code, right_code = _lines(blocks[:right]), _lines(blocks[right:])
    leaks = wrong_code.index(next(line for line in wrong_code if "return" in line))
    assert not any("close()" in line for line in wrong_code[:leaks])
    for language, closes in (("Python", "with conn"), ("Go", "defer"), ("Java", "try (")):
        assert any(language in line for line in right_code)
        assert any(closes in line for line in right_code)
    assert "find-the-line" in page.see


def test_two_msl_is_drawn_and_derived_on_one_page_alone() -> None:
    assert [page.name for page in ALL if _says(page, r"\b1 MSL\b")] == ["how-long-is-time-wait"]
    drawn = [
        block
        for block in LIBRARY.find("how-long-is-time-wait").body
        if isinstance(block, Code) and re.search(r"1 MSL +2 MSL", block.lines[0])
    ]
    assert len(drawn) == 1
    assert drawn[0].lines[1].startswith("|--")
    assert _says(LIBRARY.find("old-segment"), r"how-long-is-time-wait shows why two")


def test_closed_is_a_short_page() -> None:
    assert len(set_page(LIBRARY.find("CLOSED"), ascii=True)) <= 40


# Finding pages.


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("TIME-WAIT", "TIME_WAIT"),
        ("time_wait", "TIME_WAIT"),
        ("time wait", "TIME_WAIT"),
        ("ESTAB", "ESTABLISHED"),
        ("SYN-RECEIVED", "SYN_RECV"),
        ("fin-wait-1", "FIN_WAIT1"),
        ("close", "CLOSED"),
        ("CLOSED", "CLOSED"),
        ("Last Ack Lost", "last-ack-lost"),
        ("last_ack_lost", "last-ack-lost"),
        ("ports-running-out", "ports-running-out"),
        ("Recv-Q", "recv-q"),
        ("NGINX", "nginx"),
        ("FIN_WAIT", "states"),
        ("linger", "so-linger"),
        ("reuseaddr", "reuse-options"),
        ("reuseport", "reuse-options"),
        ("backlog", "LISTEN"),
        ("half-open", "half-open"),
        ("challenge", "syn-meets-last-ack"),
        ("conntrack", "nat-and-conntrack"),
        ("paws", "old-syn-meets-time-wait"),
        ("tw_reuse", "sysctls"),
        ("net.ipv4.tcp_tw_reuse", "sysctls"),
        ("rfc1337", "old-syn-meets-time-wait"),
        ("py-spy", "find-the-line"),
        ("keepalive", "keep-alive"),
        ("rpc error: code = Unavailable desc = connection closed", "grpc"),
        ("aspnetcore", "kestrel"),
        ("Plug.Cowboy", "cowboy"),
        ("rpc error: desc = transport is closing", "grpc"),
        ("FD_SETSIZE", "select-limit-reached"),
        ("select", "forgotten-or-stuck"),
        ("WARNING close-wait-leak: app (pid 7) holds 900 connections", "close-wait-leak"),
        ("CLOSE-WAIT 1      0         10.0.0.5:8080    10.0.0.9:40112", "CLOSE_WAIT"),
        ("tcp  0  0 10.0.0.5:8080  10.0.0.9:40112  TIME_WAIT  -", "TIME_WAIT"),
        ("error messages", "error-messages"),
    ],
)
def test_names_are_found_in_every_spelling(words: str, name: str) -> None:
    assert LIBRARY.find(words).name == name


@pytest.mark.parametrize(
    ("words", "near"),
    [
        ("TIME_WAITT", "TIME_WAIT"),
        ("clsoe-wait", "CLOSE_WAIT"),
        ("halfclose-data", "half-close"),
        ("reuse", "tcp-tw-reuse-on-a-server"),
        ("simultaneous", "simultaneous-close"),
        ("port-running-out", "ports-running-out"),
    ],
)
def test_unknown_words_get_the_nearest_names(words: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        LIBRARY.find(words)
    assert words in caught.value.what
    assert near in caught.value.next_step


def test_nonsense_gets_the_index() -> None:
    with pytest.raises(UsageError) as caught:
        LIBRARY.find("xyzzy")
    assert caught.value.next_step == "see the index: twdiag explain"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_index_fits(width: int) -> None:
    for ascii in (False, True):
        lines = set_index(LIBRARY.index, ascii=ascii, width=width)
        assert all(len(line.text) <= min(width, 80) for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_keeps_its_words_and_its_columns(width: int) -> None:
    table = PageTable((("a", "what it is"), ("one", "some words that take room " * 3), ("two", "")))
    lines = [line.text for line in set_blocks([table], width=width)]
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).count("some words that take room") == 3 or width < 80
    assert lines[0].split() == ["a", "what", "it", "is"]
    assert set(lines[1].split()[0]) == {"-"}
    starts = {line.index(word) for line in lines for word in ("what", "some") if word in line}
    assert len(starts) >= 1


# Rules.


def test_a_rules_manual_becomes_a_page_with_its_headings() -> None:
    for rule in RULES:
        page = LIBRARY.find(rule.name)
        headings = [block.text for block in page.body if isinstance(block, Heading)]
        assert headings == ["What it means", "Why it matters", "What to do", "What not to do"]
        assert " ".join(rule.manual.split()).startswith(page.summary)
