"""Read a rule's manual: the docstring's sections, so that findings and pages say the same."""

from __future__ import annotations

import ast
import functools
import inspect
from pathlib import Path
from typing import Final

HEADINGS: Final = ("What it means", "Why it matters", "What to do", "What not to do")


@functools.lru_cache
def sections(manual: str) -> dict[str, str]:
    """Return {heading: text} of a manual; the text before the first heading is under "".

    Paragraphs stay apart by an empty line, and lines of a paragraph are joined by a blank.
    """
    found: dict[str, list[list[str]]] = {"": [[]]}
    current = ""
    for line in inspect.cleandoc(manual).splitlines():
        heading = line.rstrip().removesuffix(":")
        if line.rstrip().endswith(":") and heading in HEADINGS:
            current = heading
            found[current] = [[]]
        elif not line.strip():
            found[current].append([])
        elif line.startswith("- "):
            found[current].append([line.strip()])
        else:
            found[current][-1].append(line.strip())
    return {
        name: "\n\n".join(" ".join(part) for part in parts if part) for name, parts in found.items()
    }


def why(manual: str) -> str:
    """Return the manual's "Why it matters" as one paragraph."""
    return sections(manual).get("Why it matters", "").replace("\n\n", " ")


def do_not(manual: str) -> tuple[str, ...]:
    """Return the items of the manual's "What not to do"."""
    text = sections(manual).get("What not to do", "")
    return tuple(part.removeprefix("- ") for part in text.split("\n\n") if part)


def text_of(doc: str | None, file: str) -> str:
    """Return a module's docstring; `python -OO` strips it, and then its source still has it."""
    return doc or ast.get_docstring(ast.parse(Path(file).read_text(encoding="utf-8"))) or ""
