"""How a connection begins: the 3-way open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.story import Story
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay


def _three_way_open(play: StoryPlay) -> None:
    play.ready(ChartSide.LEFT, initial=1000)
    play.listening(ChartSide.RIGHT, initial=5000)
    syn = play.call(
        ChartSide.LEFT,
        Event.ACTIVE_OPEN,
        "connect()",
        "The client's kernel picks a free local port and an initial sequence number (ISN). "
        "connect() waits until the handshake is over.",
    )
    answer = play.answer(
        syn,
        "The SYN says: my bytes begin after 1000. The listener stays in LISTEN; the kernel makes a "
        "new half-open entry for this client, in SYN_RECV. No application is involved yet.",
    )
    last = play.answer(
        answer,
        "One segment does two things: it acknowledges the client's SYN (ack=1001) and carries the "
        "server's own SYN (seq=5000). Now the client knows that both directions work: connect() "
        "returns.",
    )
    play.arrive(
        last,
        "Only now the server knows that its own SYN arrived. The connection goes to the accept "
        "queue of the listener, where accept() finds it.",
    )


OPENING: Final = (Story("three-way-open", "client", "server", _three_way_open),)
