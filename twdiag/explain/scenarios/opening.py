"""How a connection begins: the 3-way open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.story import Scenario
from twdiag.tcp import Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play


def _three_way_open(play: Play) -> None:
    play.ready(Side.LEFT, initial=1000)
    play.listening(Side.RIGHT, initial=5000)
    syn = play.call(
        Side.LEFT,
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


OPENING: Final = (
    Scenario(
        "three-way-open",
        "The 3-way open",
        "Both ends agree on where their sequence numbers begin, in three segments.",
        "client",
        "server",
        _three_way_open,
        """
        Why three? Each end must tell its initial sequence number and must learn that it arrived:
        SYN, ACK of it, SYN, ACK of it. The server has nothing to wait for between its ACK and its
        own SYN, so the two share a segment, and four become three. In the close that is different:
        the server may still have data to send between its ACK and its FIN.

        Why not two? With two segments an old SYN, delayed in the network, would open a connection
        that nobody wants: the server could not see that the client never meant it. The third
        segment is the client's confirmation; a client that did not mean it sends RST instead.

        From the third segment on both ends are ready to send and to receive: that is what the
        handshake guarantees, and nothing more (not that an application has accepted).
        """,
        see=("SYN_SENT", "SYN_RECV", "four-way-close", "flags"),
        cites=("RFC 9293 section 3.5 and figure 6", "RFC 9293 section 3.4 (initial numbers)"),
    ),
)
