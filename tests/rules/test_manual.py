"""Every rule has a whole manual, and the reader of manuals takes them apart rightly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from twdiag import rules
from twdiag.rules import manual

if TYPE_CHECKING:
    from twdiag.rules.rule import Rule

MANUAL = """A thing is wrong.

What it means:
It is wrong
in two lines.

And in two paragraphs.

Why it matters:
Because.

Because of that too.

What to do:
Mend it.

What not to do:
- Do not break it,
  not even a little.
- Do not hide it: it
  is seen.
"""


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_each_rule_has_a_whole_manual(rule: Rule[Any]) -> None:
    parts = manual.sections(rule.manual)
    assert list(parts) == ["", *manual.HEADINGS]
    assert all(parts.values())
    assert rule.manual.splitlines()[0].endswith(".")
    assert manual.why(rule.manual)
    assert all(item.startswith("Do not ") for item in manual.do_not(rule.manual))
    assert manual.do_not(rule.manual)


@pytest.mark.parametrize(
    ("name", "section", "pattern"),
    [
        ("server-closes-first", "What it means", r"the client asked for it: HTTP/1\.0 \(ab\)"),
        ("server-closes-first", "What it means", r"`Connection: close` \(nginx as a proxy"),
        ("server-closes-first", "What it means", r"whatever its keep-alive settings say"),
        ("server-closes-first", "Why it matters", r"A pooled client.*a 502 at a proxy, ECONNRESET"),
        ("server-closes-first", "Why it matters", r"see keep-alive-race"),
        (
            "bound-ports-running-out",
            "What it means",
            r"connect\(\) first takes ports of the same parity",
        ),
        ("bound-ports-running-out", "What to do", r"nginx \(proxy_bind, .*and HAProxy \(source, "),
        ("bound-ports-running-out", "What to do", r"set it unless you give them a port"),
        ("restart-blocked", "What it means", r"SO_REUSEADDR, or both SO_REUSEPORT"),
        ("restart-blocked", "What not to do", r"it helps only if the old socket had it too"),
        ("restart-blocked", "What it means", r"A TIME_WAIT blocks for 60 to 64 s"),
        ("fin-unanswered", "Why it matters", r"102 to 205 s by the round-trip time"),
    ],
)
def test_what_real_servers_and_kernels_showed_is_said(
    name: str, section: str, pattern: str
) -> None:
    rule = next(rule for rule in rules.RULES if rule.name == name)
    assert re.search(pattern, manual.sections(rule.manual)[section], re.DOTALL)


def test_sections_join_lines_and_keep_paragraphs() -> None:
    parts = manual.sections(MANUAL)
    assert parts[""] == "A thing is wrong."
    assert parts["What it means"] == "It is wrong in two lines.\n\nAnd in two paragraphs."
    assert manual.why(MANUAL) == "Because. Because of that too."


def test_each_item_of_a_list_is_one_whole_item() -> None:
    assert manual.do_not(MANUAL) == (
        "Do not break it, not even a little.",
        "Do not hide it: it is seen.",
    )


def test_a_line_that_only_looks_like_a_heading_is_text() -> None:
    text = "Wrong.\n\nWhy it matters:\nFor these reasons:\nit hurts."
    assert manual.why(text) == "For these reasons: it hurts."


def test_a_manual_without_a_section_has_no_text_for_it() -> None:
    assert manual.why("Wrong.") == ""
    assert manual.do_not("Wrong.") == ()


def test_the_manual_survives_python_oo() -> None:
    source = rules.ports_running_out.__file__
    assert manual.text_of(None, source).split() == manual.text_of("", source).split()
    assert manual.text_of(None, source).startswith("Outgoing connections to one destination")
    assert manual.text_of("given", source) == "given"
