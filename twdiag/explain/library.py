"""All pages, found by any spelling of their names."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import UsageError
from twdiag.explain.diagram import label
from twdiag.explain.pages import host, myths, protocol, scenarios, states
from twdiag.explain.pages.rules import rule_page, software_page
from twdiag.tcp import parse_state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.explain.page import Page
    from twdiag.rules.rule import Rule
    from twdiag.software import Software

_ALIASES: Final = {
    **dict.fromkeys(
        (
            "tcptwreuse",
            "tcptwreusedelay",
            "tcptwrecycle",
            "tcpfintimeout",
            "tcpmaxtwbuckets",
            "tcptimestamps",
            "tcprfc1337",
            "tcporphanretries",
            "tcpmaxorphans",
            "tcpsynretries",
            "somaxconn",
            "keepalive",
        ),
        "sysctls",
    ),
    **dict.fromkeys(("iplocalportrange", "iplocalreservedports"), "ephemeral-ports"),
    **dict.fromkeys(("rst", "fin", "ack", "syn", "psh", "urg", "ece", "cwr", "ns"), "flags"),
    **dict.fromkeys(("msl", "2msl"), "how-long-is-time-wait"),
    "eaddrnotavail": "ephemeral-ports",
    "eaddrinuse": "bind-fails-after-restart",
    "soreuseaddr": "reuseaddr-always-helps",
    "solinger": "linger-zero-is-the-cure",
    "emfile": "fd-limit-near",
    "java": "tomcat",
    "httpd": "apache",
}
"""Words of the shell, of error messages and of captures, and the page that answers them."""

_NEAR = 3
"""How many suggestions an unknown word gets."""


class Library:
    """The pages that `explain` can show; rules and software come from the caller."""

    def __init__(self, rules: Iterable[Rule[Any]] = (), software: Iterable[Software] = ()) -> None:
        pages: tuple[Page, ...] = (
            *states.PAGES,
            *scenarios.PAGES,
            *protocol.PAGES,
            *host.PAGES,
            *myths.PAGES,
            *(rule_page(rule) for rule in rules),
            *(software_page(program) for program in software),
        )
        names = {page.name for page in pages}
        self.pages = tuple(
            replace(page, see=tuple(name for name in page.see if name in names)) for page in pages
        )
        self._by_name = {_normal(page.name): page for page in self.pages}

    def find(self, words: str) -> Page:
        """Return the page that words name: a state in any spelling, or a name with or without -.

        Raises UsageError with the nearest names where there is none.
        """
        wanted = _normal(words)
        page = self._by_name.get(wanted) or self._by_name.get(_normal(_ALIASES.get(wanted, "")))
        if page is not None:
            return page
        state = parse_state(words)
        if state is not None:
            return self._by_name[_normal(label(state))]
        near = self.near(words)
        what = f"there is no explanation of {words!r}"
        if near:
            raise UsageError(what, "near: " + ", ".join(near) + "; all: twdiag explain")
        raise UsageError(what, "see the index: twdiag explain")

    def near(self, words: str) -> list[str]:
        """Return the names that are most like these words, the likest first."""
        wanted = _normal(words)
        inside = [
            page.name for name, page in self._by_name.items() if len(wanted) > 2 and wanted in name
        ]
        like = difflib.get_close_matches(wanted, self._by_name, n=_NEAR, cutoff=0.6)
        names = [self._by_name[name].name for name in like] + inside
        return list(dict.fromkeys(names))[:_NEAR]


def _normal(name: str) -> str:
    """Return a name without case, blanks, `-` and `_`, and without the net.ipv4. of a sysctl."""
    name = name.casefold().removeprefix("net.ipv4.").removeprefix("net.core.")
    return "".join(c for c in name if c.isalnum())
