"""How states are named in drawings, and which characters drawings are made of."""

from __future__ import annotations

from typing import Final

from twdiag.tcp import State

MAX_WIDTH: Final = 80
"""No drawing is wider: a wider lane makes arrows longer, not clearer."""

# Code page 437 has every one of these, so that a Linux console shows them too.
_ASCII: Final = str.maketrans("─│┌┐└┘├┤┬┴┼═║╔╗╚╝►◄▼▲·", "-|+++++++++=#####><v^.")


def label(state: State | None) -> str:
    """Return the name of a state in a drawing; None is an end that lost power or network."""
    if state is None:
        return "vanished"
    return "CLOSED" if state is State.CLOSE else state.name


def to_ascii(line: str) -> str:
    """Return a drawn line in characters that every terminal has."""
    return line.translate(_ASCII)
