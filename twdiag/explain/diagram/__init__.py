"""Drawings of the handshake as plain lines of text, made from twdiag.tcp: no I/O, no colours."""

from twdiag.explain.diagram.ink import MAX_WIDTH, label, to_ascii
from twdiag.explain.diagram.machine import left_out, state_diagram
from twdiag.explain.diagram.place import close_chart
from twdiag.explain.diagram.sequence import (
    Arrow,
    Chart,
    ChartRow,
    ChartSide,
    Crossing,
    Fate,
    Note,
    Pause,
    sequence_chart,
)

__all__ = [
    "MAX_WIDTH",
    "Arrow",
    "Chart",
    "ChartRow",
    "ChartSide",
    "Crossing",
    "Fate",
    "Note",
    "Pause",
    "close_chart",
    "label",
    "left_out",
    "sequence_chart",
    "state_diagram",
    "to_ascii",
]
