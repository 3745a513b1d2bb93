"""What the keys of the live screen do: each makes another choice of what is shown; no terminal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from twdiag.render.live_rows import matches, name_of, size_of, speed_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.analysis.wanted import RowKey
    from twdiag.engine.frames import Entry, Frame
    from twdiag.model.findings import Finding
    from twdiag.model.namespaces import Namespace

SORTS: Final = ("as they came", "largest first", "fastest first", "by name")
_LONGEST: Final = 60
_PAGE: Final = 10

RowPlace = tuple[str, "RowKey"]
"""A row: its part and its key."""


@dataclass(frozen=True)
class About:
    """What Enter explains: a row, and the findings that concern it, with their causes.

    `namespace` is where commands have to look, None where they are run there anyway.
    """

    part: str
    row: Any
    findings: tuple[Finding, ...] = ()
    namespace: Namespace | None = None


@dataclass(frozen=True)
class Choice:
    """What is shown of a frame, and how.

    `ranks` are the places that sorting gave to the rows that there were; later ones come after.
    `scroll` is the first line shown of a page.
    """

    selected: RowPlace | None = None
    sort: int = 0
    ranks: Mapping[RowPlace, int] = field(default_factory=dict)
    filter: str = ""
    typing: bool = False
    paused: bool = False
    help: bool = False
    about: About | None = None
    scroll: int = 0

    @property
    def on_page(self) -> bool:
        """Whether a page is shown instead of the rows."""
        return self.help or self.about is not None


def shown(frame: Frame, choice: Choice) -> dict[str, list[Entry[Any]]]:
    """Return the rows of each part that are shown, in their order."""
    found = {}
    for part, entries in frame.parts.items():
        kept = [e for e in entries if not choice.filter or matches(part, e.row, choice.filter)]
        if choice.ranks:
            last = len(choice.ranks)
            kept.sort(key=lambda e, part=part: choice.ranks.get((part, e.key), last))  # type: ignore[misc]
        found[part] = kept
    return found


def selected(frame: Frame, choice: Choice) -> RowPlace | None:
    """Return the row that is selected: the one chosen, else the first; None without any."""
    places = _places(frame, choice)
    if choice.selected in places:
        return choice.selected
    return places[0] if places else None


def entry_at(frame: Frame, place: RowPlace) -> Entry[Any] | None:
    """Return the row at a place."""
    part, key = place
    return next((entry for entry in frame.parts[part] if entry.key == key), None)


def press(choice: Choice, key: str, frame: Frame) -> tuple[Choice, str]:
    """Return the choice after a key, and what is to be done: "quit", "reset", "explain" or ""."""
    if choice.typing:
        return _typed(choice, key), ""
    if choice.on_page:
        return _on_page(choice, key)
    if key in ("q", "Q", "\x04"):
        return choice, "quit"
    if key == "r":
        return Choice(paused=choice.paused), "reset"
    if key in ("\r", "\n"):
        return choice, "explain"
    return _changed(choice, key, frame), ""


def _typed(choice: Choice, key: str) -> Choice:
    """Return the choice with a changed filter."""
    if key in ("\r", "\n"):
        return replace(choice, typing=False)
    if key == "\x1b":
        return replace(choice, typing=False, filter="")
    if key in ("\x7f", "\x08"):
        return replace(choice, filter=choice.filter[:-1])
    if key == "\x15":  # Ctrl-U
        return replace(choice, filter="")
    if len(key) == 1 and key.isprintable() and len(choice.filter) < _LONGEST:
        return replace(choice, filter=choice.filter + key)
    return choice


def _on_page(choice: Choice, key: str) -> tuple[Choice, str]:
    if key in _STEPS:
        return replace(choice, scroll=max(0, choice.scroll + _STEPS[key])), ""
    if key == "Q":
        return choice, "quit"
    return replace(choice, help=False, about=None, scroll=0), ""


def _changed(choice: Choice, key: str, frame: Frame) -> Choice:
    if key in _STEPS:
        return replace(choice, selected=_moved(frame, choice, _STEPS[key]))
    if key == " ":
        return replace(choice, paused=not choice.paused)
    if key == "s":
        return _sorted(choice, frame)
    if key == "/":
        return replace(choice, typing=True)
    if key == "\x1b":
        return replace(choice, filter="")
    if key in ("?", "h"):
        return replace(choice, help=True, scroll=0)
    return choice


_STEPS: Final = {
    "j": 1,
    "k": -1,
    "\x1b[B": 1,
    "\x1b[A": -1,
    "\x1bOB": 1,
    "\x1bOA": -1,
    "\x1b[6~": _PAGE,
    "\x1b[5~": -_PAGE,
    "g": -1_000_000,
    "G": 1_000_000,
    "\x1b[H": -1_000_000,
    "\x1b[F": 1_000_000,
}


def _moved(frame: Frame, choice: Choice, step: int) -> RowPlace | None:
    places = _places(frame, choice)
    at = selected(frame, choice)
    if at is None:
        return None
    return places[min(len(places) - 1, max(0, places.index(at) + step))]


def _places(frame: Frame, choice: Choice) -> list[RowPlace]:
    return [(part, e.key) for part, entries in shown(frame, choice).items() for e in entries]


def _sorted(choice: Choice, frame: Frame) -> Choice:
    """Return the choice with the next order; it stays until it is asked for again."""
    sort = (choice.sort + 1) % len(SORTS)
    order = _ORDERS[sort]
    if order is None:
        return replace(choice, sort=sort, ranks={})
    ranks: dict[RowPlace, int] = {}
    for part, entries in frame.parts.items():
        for entry in sorted(entries, key=lambda e, part=part: order(part, e.row)):  # type: ignore[misc]
            ranks[part, entry.key] = len(ranks)
    return replace(choice, sort=sort, ranks=ranks)


_ORDERS: Final[tuple[Callable[[str, Any], Any] | None, ...]] = (
    None,
    lambda part, row: -size_of(part, row),
    lambda part, row: -speed_of(part, row),
    lambda part, row: name_of(part, row).casefold(),
)
