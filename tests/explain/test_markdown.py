"""The parser of pages: what it reads, and that a mistake is an error with its file and line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.explain.library import FOLDER, Library
from twdiag.explain.markdown import (
    Directive,
    Header,
    PageFileError,
    parse_blocks,
    parse_header,
    parse_page,
)
from twdiag.explain.page import Code, Command, Heading, Item, PageTable, Term, Text

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "---\ntitle: A title: with a colon\nsummary: What it says,\n  in two lines.\n---\n"


def test_a_page_is_read() -> None:
    text = (
        HEAD.replace("---\nt", "---\naliases: 2MSL, so-linger\nsee: TIME_WAIT, flags\nt")
        + """
One
paragraph.

## A heading
Text under it.

- **a word**: what it
  means: this
- a point
  of two lines
- another

1. first
2. then

    $ ss -tan
    # shows
    # it all
    $ cat file
    State  Recv-Q

      indented

| a | b and c |
|---|---------|
| 1 |         |

{place TIME_WAIT}

## Rests on

- RFC 9293
  section 3
"""
    )
    page = parse_page(text, "x.md")
    assert page.header == Header(
        "A title: with a colon",
        "What it says, in two lines.",
        ("2MSL", "so-linger"),
        ("TIME_WAIT", "flags"),
        7,
    )
    assert page.body == (
        Text("One paragraph."),
        Heading("A heading"),
        Text("Text under it."),
        Term("a word", "what it means: this"),
        Item("a point of two lines"),
        Item("another"),
        Item("first", "1."),
        Item("then", "2."),
        Command("ss -tan", "shows it all"),
        Command("cat file"),
        Code(("State  Recv-Q", "", "  indented")),
        PageTable((("a", "b and c"), ("1", ""))),
        Directive(("place", "TIME_WAIT"), 36),
    )
    assert page.cites == ("RFC 9293 section 3",)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("# A title", "a heading is written: ## Words"),
        ("##No blank", "a heading is written: ## Words"),
        ("### Deeper", "a heading is written: ## Words"),
        ("* a point", "a point of a list begins with: - "),
        ("```", "without a fence"),
        ("> said", "quotations"),
        ("---", "rules across the page"),
        ("[words](https://example.org)", "a link is written in the header"),
        ("![a](b)", "a link is written in the header"),
        ("<b>bold</b>", "HTML"),
        ("a\ttab", "tab"),
        ("{place", "a directive is a line of its own"),
        ("{place} and more", "a directive is a line of its own"),
        ("| a |", "a table has a head"),
        ("| a | b", "a row of a table ends with |"),
    ],
)
def test_other_markdown_is_an_error_with_file_and_line(line: str, why: str) -> None:
    with pytest.raises(PageFileError) as caught:
        parse_page(f"{HEAD}\nfirst\n\n{line}\n", "states/x.md")
    assert caught.value.what.startswith("states/x.md:9: ")
    assert why in caught.value.what


def test_the_second_line_of_a_paragraph_is_looked_at_too() -> None:
    with pytest.raises(PageFileError, match=r"^x\.md:7: quotations"):
        parse_page(HEAD + "first\n> second\n", "x.md")


def test_a_row_with_a_cell_too_few_is_named() -> None:
    with pytest.raises(PageFileError, match=r"^x\.md:9: this row has 1 cells, not 2"):
        parse_page(HEAD + "\n| a | b |\n|---|---|\n| c |\n", "x.md")


def test_only_sources_stand_under_rests_on() -> None:
    with pytest.raises(PageFileError, match="only points of a list"):
        parse_page(HEAD + "\n## Rests on\n\nRFC 9293\n", "x.md")


@pytest.mark.parametrize(
    ("head", "line", "why"),
    [
        ("title: x\n", 1, "begins with a line: ---"),
        ("---\nname: x\n---\n", 2, "expected one of title, summary, aliases, see"),
        ("---\nno key\n---\n", 2, "expected one of"),
        ("---\ntitle: x\ntitle: y\n---\n", 3, "title is given twice"),
        ("---\ntitle: x\n---\n", 3, "the header has no summary"),
        ("---\nsummary: x\n---\n", 3, "the header has no title"),
        ("---\ntitle: x\nsummary: y\n", 4, "does not end"),
    ],
)
def test_a_wrong_header_is_an_error_with_its_line(head: str, line: int, why: str) -> None:
    with pytest.raises(PageFileError) as caught:
        parse_header(head, "x.md")
    assert caught.value.what.startswith(f"x.md:{line}: ")
    assert why in caught.value.what


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@given(st.lists(st.text(alphabet="ab -1.#|*{}$>:\t", max_size=20), max_size=12))
def test_any_text_is_read_or_refused_and_no_word_is_lost(lines: list[str]) -> None:
    try:
        blocks = parse_blocks(lines, "x.md")
    except PageFileError as error:
        refused = error.what
    else:
        refused = ""
    if refused:
        place = re.match(r"x\.md:(\d+): ", refused)
        assert place is not None
        assert 1 <= int(place[1]) <= len(lines)
        return
    said = []
    for block in blocks:
        match block:
            case Directive():
                said += list(block.words)
            case PageTable():
                said += [cell for row in block.rows for cell in row]
            case Code():
                said += list(block.lines)
            case Command():
                said += [block.command, block.shows]
            case Term():
                said += [block.term, block.text]
            case Item():
                said += [block.mark, block.text]
            case Text() | Heading():
                said.append(block.text)
    assert _words(" ".join(said)) == _words(" ".join(lines))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of pages with one topic."""
    for kind in ("states", "scenarios", "topics", "myths"):
        (tmp_path / kind).mkdir()
    (tmp_path / "topics" / "one.md").write_text(HEAD + "\nwords\n\n{story nope}\n")
    (tmp_path / "index.md").write_text("## Topics\n\n- one\n")
    return tmp_path


def test_a_directive_that_means_nothing_is_an_error_with_its_line(folder: Path) -> None:
    with pytest.raises(PageFileError, match=r"^pages/topics/one\.md:9: .*one story"):
        Library(folder=folder).find("one")


def test_an_index_that_names_no_page_is_an_error(folder: Path) -> None:
    (folder / "index.md").write_text("## Topics\n\n- two\n")
    with pytest.raises(PageFileError, match=r"index\.md"):
        _ = Library(folder=folder).index


def test_finding_a_page_reads_that_page_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "topics" / "one.md").write_text(HEAD + "\nwords\n")
    (folder / "topics" / "broken.md").write_text("not a page")

    def nobody() -> object:
        raise AssertionError("asked for rules or programs")
        yield

    library = Library(nobody(), nobody(), folder)  # type: ignore[arg-type]
    assert library.find("ONE").body == (Text("words"),)


def test_the_pages_are_shipped_beside_the_code() -> None:
    assert len(list(FOLDER.glob("*/*.md"))) > 60
