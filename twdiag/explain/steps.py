"""What a story is made of: segments with numbers, the moves of both ends, and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Crossing
from twdiag.tcp.segments import Event, Segment

if TYPE_CHECKING:
    from twdiag.explain.diagram import Arrow, ChartSide, Note, Pause
    from twdiag.tcp import State

TAKES_A_NUMBER: Final = (Segment.SYN, Segment.SYN_ACK, Segment.FIN)
"""The segments that take one sequence number themselves, so that they can be acknowledged."""


class IllegalStep(ValueError):
    """A story does something that TCP does not allow."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A segment on the wire; `number` counts the segments of the story from 1."""

    number: int
    sender: ChartSide
    segment: Segment
    seq: int
    ack: int | None
    length: int = 0
    remark: str = ""

    @property
    def end(self) -> int:
        """The sequence number after this segment: SYN and FIN take one each."""
        return self.seq + self.length + (self.segment in TAKES_A_NUMBER)

    def __str__(self) -> str:
        words = [f"{self.number}  {self.segment.value} seq={self.seq}"]
        if self.ack is not None:
            words.append(f"ack={self.ack}")
        if self.length:
            words.append(f"len={self.length}")
        if self.remark:
            words.append(self.remark)
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Move:
    """A transition that one end made in a step."""

    side: ChartSide
    before: State
    event: Event
    after: State


@dataclass(frozen=True, slots=True)
class StoryStep:
    """One step of a story: what is drawn, the moves made, the states after it, and why."""

    what: Arrow | Crossing | Note | Pause
    moves: tuple[Move, ...]
    packets: tuple[Packet, ...]
    left: State | None
    right: State | None
    why: str = ""

    @property
    def title(self) -> str:
        """What the step is, in a few words."""
        if isinstance(self.what, Crossing):
            return f"{self.what.left} and {self.what.right} cross"
        return self.what.text
