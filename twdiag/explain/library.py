"""All pages, found by any spelling of their names; a page is read only when it is asked for."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.errors import UsageError
from twdiag.explain.markdown import Directive, PageFileError, parse_blocks, parse_header, parse_page
from twdiag.explain.page import Command, Heading, IndexEntry, Item, Page, PageKind
from twdiag.tcp import parse_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.explain.page import PageBlock
    from twdiag.explain.terms import Practice
    from twdiag.rules.rule import Rule
    from twdiag.software import Software

FOLDER: Final = Path(__file__).parent / "pages"
"""Where the written pages are: a folder for each kind, and index.md with their order."""

_FOLDERS: Final = {
    PageKind.STATE: "states",
    PageKind.SCENARIO: "scenarios",
    PageKind.TOPIC: "topics",
    PageKind.MYTH: "myths",
}
_ELSEWHERE: Final = {
    "java": "tomcat",
    "httpd": "apache",
    "transport is closing": "grpc",
    "code = unavailable": "grpc",
}
"""Words that mean a page of a program or a rule: those have no header to say so."""

_SAYS_ENOUGH: Final = 9
"""How many letters of an alias may stand anywhere in what was asked, such as a line of a log."""

_A_LINE: Final = 60
"""What is longer than this many letters is a line that somebody pasted, not a misspelt name."""

_SHOWN_STATE: Final = re.compile(r"\b[A-Z]{3,5}[-_](?:[A-Z]{3,4}|WAIT[-_]?[12]|ACK)\b")
"""How ss(8) and netstat(8) write a state, in the middle of a row: CLOSE-WAIT, FIN_WAIT2."""

_MOST_PRACTICES: Final = 3
"""How many scenarios of the lab stand on the page of a rule."""

_NEAR: Final = 5
"""How many suggestions an unknown word gets."""


class IndexPart(NamedTuple):
    """A part of the index."""

    heading: str
    entries: tuple[IndexEntry, ...]


class Library:
    """The pages that `explain` can show; rules, software and the lab come from the caller.

    They are looked at only where the written pages do not answer, so generators save start-up.
    """

    def __init__(
        self,
        rules: Iterable[Rule[Any]] = (),
        software: Iterable[Software] = (),
        folder: Path = FOLDER,
        practices: Iterable[Practice] = (),
    ) -> None:
        self._given = (rules, software, practices)
        self._folder = folder

    def find(self, words: str) -> Page:
        """Return the page that words name: a state in any spelling, a name or another word for it.

        Raises UsageError with the nearest names where there is none.
        """
        wanted = _normal(words)
        if wanted in self._files:
            return self._read(self._files[wanted])
        state = parse_state(words)
        for name in (state.name, state.rfc) if state else ():
            if _normal(name) in self._files:
                return self._read(self._files[_normal(name)])
        other = self._aliases.get(wanted)
        if other is not None:
            return self._read(other)
        page = self._made(wanted) or self._own_word(wanted)
        page = page or self._error(words) or self._mentioned(words)
        if page is None:
            raise self._unknown(words)
        return page

    def find_lines(self, lines: Iterable[str]) -> Page:
        """Return what the errors in some lines mean; a single line is like words.

        Raises UsageError where no line has an error that is known.
        """
        from twdiag.explain.answers import lines_page

        rest = (line for line in lines if line.strip())
        first, second = next(rest, None), next(rest, None)
        if first is None:
            raise UsageError("there is no line to explain", "for example: dmesg | twdiag explain -")
        return self.find(first) if second is None else lines_page(chain((first, second), rest))

    def _own_word(self, wanted: str) -> Page | None:
        """Return the page of a word that twdiag uses: a scenario, a limit, evidence, a wait."""
        from twdiag.explain.terms import practice_page, term_page

        for practice in self._practices:
            if _normal(practice.name) == wanted:
                return practice_page(practice)
        return term_page(wanted, self._rules)

    def _error(self, words: str) -> Page | None:
        """Return what the errors in a line mean, None where none is known."""
        from twdiag.explain.answers import line_page, message_page
        from twdiag.explain.messages import by_name, found_in, plain_words

        named = by_name(words)
        if named is not None:
            return message_page(named)
        found = found_in(words)
        if len(found) == 1 and (plain_words(words),) in found[0].message.words:
            return message_page(found[0].message)
        return line_page(words, found) if found else None

    def _mentioned(self, line: str) -> Page | None:
        """Return the page of a rule, of other words or of a state in the middle of a line.

        The longest of several words counts.
        """
        from twdiag.explain.messages import plain_words

        wanted = plain_words(line)
        names = [rule.name for rule in self._rules]
        aliases = (alias for entry in self._headers.values() for alias in entry.aliases)
        known = (word for word in (*names, *aliases, *_ELSEWHERE) if len(word) >= _SAYS_ENOUGH)
        found = max((word for word in known if plain_words(word) in wanted), key=len, default="")
        if found:
            return self._made(_normal(found)) or self._read(self._aliases[_normal(found)])
        shown = next(filter(None, map(parse_state, _SHOWN_STATE.findall(line))), None)
        return self._read(self._files[_normal(shown.name)]) if shown else None

    def _unknown(self, words: str) -> UsageError:
        """Return what is said where nothing explains some words, with the nearest names."""
        if len(words) > _A_LINE:
            return UsageError(
                f"there is no error in {words[: _A_LINE - 3] + '...'!r} that is known here",
                "all that are: twdiag explain error-messages",
            )
        what = f"there is no explanation of {words!r}"
        near = self.near(words)
        if near:
            return UsageError(what, "near: " + ", ".join(near) + "; all: twdiag explain")
        return UsageError(what, "see the index: twdiag explain")

    def near(self, words: str) -> list[str]:
        """Return the names that are most like these words, the likest first."""
        from twdiag.explain.messages import messages

        wanted = _normal(words)
        names = {
            _normal(word): entry.name
            for group in self.index
            for entry in group.entries
            for word in (*entry.aliases, entry.name)
        }
        names |= {_normal(practice.name): practice.name for practice in self._practices}
        names |= {
            _normal(way[0]): message.name
            for message in messages()
            for way in (*message.words, (message.name,))
            if len(way) == 1
        }
        inside = [name for word, name in names.items() if len(wanted) > 2 and wanted in word]
        like = difflib.get_close_matches(wanted, names, n=_NEAR, cutoff=0.6)
        return list(dict.fromkeys([*(names[word] for word in like), *inside]))[:_NEAR]

    @cached_property
    def index(self) -> tuple[IndexPart, ...]:
        """The table of contents: the written pages as index.md has them, rules, and programs."""
        from twdiag.explain.manuals import rule_entry, software_entry

        entries = {entry.name: entry for entry in self._headers.values()}
        groups: list[tuple[str, list[IndexEntry]]] = []
        path = self._folder / "index.md"
        for block in parse_blocks(path.read_text(encoding="utf-8").split("\n"), path.name):
            if isinstance(block, Heading):
                groups.append((block.text, []))
            elif isinstance(block, Item) and groups and block.text in entries:
                groups[-1][1].append(entries[block.text])
            else:
                raise PageFileError(path.name, 1, f"expected headings and names of pages: {block}")
        groups.append(("Rules of `twdiag diagnose`", [rule_entry(rule) for rule in self._rules]))
        groups.append(("Server software", [software_entry(program) for program in self._software]))
        return tuple(IndexPart(heading, tuple(found)) for heading, found in groups if found)

    @property
    def pages(self) -> tuple[Page, ...]:
        """Every page, in the order of the index; this reads them all."""
        entries = (entry for group in self.index for entry in group.entries)
        return tuple(self.find(entry.name) for entry in entries)

    @cached_property
    def _rules(self) -> tuple[Rule[Any], ...]:
        return tuple(self._given[0])

    @cached_property
    def _software(self) -> tuple[Software, ...]:
        return tuple(self._given[1])

    @cached_property
    def _practices(self) -> tuple[Practice, ...]:
        return tuple(self._given[2])

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The files of the written pages, by their normal names."""
        return {
            _normal(path.stem): path
            for folder in _FOLDERS.values()
            for path in sorted((self._folder / folder).glob("*.md"))
        }

    @cached_property
    def _headers(self) -> dict[Path, IndexEntry]:
        """What the index shows of each written page; the files are not parsed beyond that."""
        kinds = {folder: kind for kind, folder in _FOLDERS.items()}
        found = {}
        for path in self._files.values():
            header = parse_header(path.read_text(encoding="utf-8"), _where(path))
            kind = kinds[path.parent.name]
            found[path] = IndexEntry(path.stem, kind, header.title, header.summary, header.aliases)
        return found

    @cached_property
    def _aliases(self) -> dict[str, Path]:
        """The files of the written pages, by the other words for them."""
        return {
            _normal(alias): path for path, entry in self._headers.items() for alias in entry.aliases
        }

    def _read(self, path: Path) -> Page:
        """Read a written page and carry out its directives."""
        written = parse_page(path.read_text(encoding="utf-8"), _where(path))
        body: list[PageBlock] = []
        for block in written.body:
            body += self._carried_out(block, path) if isinstance(block, Directive) else [block]
        kind = next(kind for kind, folder in _FOLDERS.items() if folder == path.parent.name)
        head = written.header
        return Page(path.stem, kind, head.title, head.summary, tuple(body), head.see, written.cites)

    def _carried_out(self, directive: Directive, path: Path) -> list[PageBlock]:
        name, *words = directive.words
        if (name, words) == ("list", ["myths"]):
            myths = (e for g in self.index for e in g.entries if e.kind is PageKind.MYTH)
            return [Item(f"{entry.name}: {entry.summary}") for entry in myths]
        if name == "messages" and words:
            from twdiag.explain.answers import table_of
            from twdiag.explain.messages import of_group

            return [table_of(of_group(words[0]))]
        from twdiag.explain.parts import carry_out

        try:
            return list(carry_out(name, tuple(words)))
        except ValueError as error:
            raise PageFileError(_where(path), directive.line, str(error)) from error

    def _with_practice(self, page: Page) -> Page:
        """Return the page of a rule with the scenarios that make it speak."""
        shown = [practice for practice in self._practices if page.name in practice.rules]
        if not shown:
            return page
        commands = [
            Command(f"twdiag lab run {practice.name}", practice.summary)
            for practice in shown[:_MOST_PRACTICES]
        ]
        return replace(page, body=(*page.body, Heading("See it in the lab"), *commands))

    def _made(self, wanted: str) -> Page | None:
        """Return the page that is made of a rule or a program, None where none has this name."""
        from twdiag.explain.manuals import rule_page, software_page

        elsewhere = {_normal(words): name for words, name in _ELSEWHERE.items()}
        wanted = _normal(elsewhere.get(wanted, wanted))
        for rule in self._rules:
            if _normal(rule.name) == wanted:
                return self._with_practice(rule_page(rule))
        for program in self._software:
            if wanted in map(_normal, (program.name, *program.head.aliases)):
                return software_page(program)
        return None


def _where(path: Path) -> str:
    """Return how errors name the file of a page."""
    return f"pages/{path.parent.name}/{path.name}"


def _normal(name: str) -> str:
    """Return a name without case, blanks, `-` and `_`, and without the net.ipv4. of a sysctl."""
    name = name.casefold()
    for prefix in ("net.ipv4.", "net.core.", "net.netfilter."):
        name = name.removeprefix(prefix)
    return "".join(c for c in name if c.isalnum())
