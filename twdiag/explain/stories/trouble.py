"""What TIME_WAIT is for: the last ACK is lost, and an old segment comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.stories.closing import expire, first_two, last_fin
from twdiag.explain.story import Story
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay
    from twdiag.explain.steps import Packet

_CLIENT, _SERVER = ChartSide.LEFT, ChartSide.RIGHT


def _no_time_wait(play: StoryPlay) -> None:
    play.happen(
        _CLIENT,
        Event.TIME_WAIT_EXPIRES,
        "no TIME_WAIT: gone at once",
        "Linux really does this when tcp_max_tw_buckets is reached: the socket is closed without "
        "a TIME_WAIT, and TCPTimeWaitOverflow counts it.",
    )


def _lost_last_ack(play: StoryPlay) -> Packet:
    """Play a close up to the loss of the last ACK; return the server's FIN."""
    play.established(left=1001, right=5001)
    first_two(play)
    fin = last_fin(play)
    last = play.answer(fin, "The client acknowledges, and for itself the close is complete.")
    play.lose(last, "The network loses the last ACK. The client cannot know that.")
    return fin


def _last_ack_lost(play: StoryPlay) -> None:
    fin = _lost_last_ack(play)
    play.pause("the server's timer runs out")
    again = play.answer(
        play.resend(fin),
        "No ACK came, so the server sends its FIN again. The client still knows the connection: "
        "it is in TIME_WAIT. The FIN starts the 60 s anew.",
    )
    play.arrive(again, "The ACK is sent again. The server leaves LAST_ACK in good order.")
    expire(play)


def _last_ack_lost_without(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    first_two(play)
    fin = last_fin(play)
    last = play.answer(fin, "The client acknowledges...")
    _no_time_wait(play)
    play.lose(last, "The network loses the last ACK.")
    play.pause("the server's timer runs out")
    reset = play.answer(
        play.resend(fin),
        "The FIN meets a host that knows nothing of this connection. A closed port answers "
        "whatever is not a RST with a RST.",
    )
    play.arrive(
        reset,
        "The close of the server ends with an error, although all its data arrived. Should a "
        "firewall swallow the FIN or the RST, the server repeats the FIN: 8 times, 102 to 205 s.",
    )


def _first_incarnation(play: StoryPlay) -> Packet:
    """Play a connection in which one data segment is delayed, resent and closed over."""
    play.established(left=1001, right=5001)
    old = play.write(_CLIENT, 100, "send(100 bytes)", "An ordinary segment of the connection...")
    play.delay(old, "... takes a long way through the network.")
    ack = play.answer(play.resend(old), "The client sends the same bytes again, and they arrive.")
    play.arrive(ack)
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The connection is closed as usual.")
    play.arrive(play.answer(fin))
    last = play.answer(last_fin(play))
    play.arrive(last, "Closed. But segment 1 is still on its way.")
    return old


def _old_segment(play: StoryPlay) -> None:
    old = _first_incarnation(play)
    play.note(
        "connect() cannot get this port yet",
        "While the client is in TIME_WAIT its kernel does not give this port to a new connection "
        "to the same server address and port. It takes another port.",
        _CLIENT,
    )
    reset = play.answer(
        old,
        "The old segment finds no connection at the server, whose kernel answers with RST...",
    )
    play.arrive(
        reset,
        "... which does not fit either: the client expects 5002 by now. It is ignored, and no "
        "application has seen old data.",
    )
    expire(play)


def _late_data(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    old = play.write(_SERVER, 100, "send(100 bytes)", "The server sends its last data...")
    play.delay(old, "... and the segment takes a long way.")
    ack = play.answer(
        play.resend(old), "The server sends it again. These are the bytes the client reads."
    )
    play.arrive(ack)
    first_two(play)
    last = play.answer(
        last_fin(play),
        "The FIN has the number after the last byte. A client that still missed a byte could not "
        "acknowledge this FIN: it would stay in FIN_WAIT2.",
    )
    play.arrive(last, "So a completed close means that all data arrived.")
    ack = play.answer(
        old,
        "The old copy comes in TIME_WAIT. It is thrown away: nobody reads it a second time. As for "
        "any segment that does not fit, an ACK says what is expected, and the 60 s start anew.",
    )
    reset = play.answer(ack, "The server has forgotten the connection and says RST...")
    play.arrive(
        reset,
        "... and this RST fits: it ends the TIME_WAIT early (TIME-WAIT assassination, RFC 1337). "
        "With net.ipv4.tcp_rfc1337=1 it is ignored and TIME_WAIT stays.",
    )


def _old_segment_without(play: StoryPlay) -> None:
    old = _first_incarnation(play)
    _no_time_wait(play)
    play.renew(_CLIENT, initial=900)
    play.renew(_SERVER, initial=5050)
    play.happen(
        _SERVER,
        Event.PASSIVE_OPEN,
        "(the listener is still there)",
        "A segment for these ports goes to the listening socket again.",
    )
    syn = play.call(
        _CLIENT,
        Event.ACTIVE_OPEN,
        "connect() from the same port",
        "By bad luck the new connection's numbers (from 900) lie close to the old ones (1001).",
    )
    play.arrive(play.answer(play.answer(syn)), "A new connection, same addresses, same ports.")
    early = play.answer(
        old,
        "The old segment arrives. Its number 1001 lies in the window of the new connection "
        "(901 and up): the server takes it for new data that came early, and keeps it.",
    )
    play.arrive(early, "The server's ACK still asks for 901.")
    new = play.write(_CLIENT, 100, "send(100 bytes)", "The new connection's own data...")
    play.answer(new, "... fills the gap before it.")
    play.note(
        "recv() returns 200 bytes",
        "100 new bytes and 100 of a connection that is long over. Nothing reports an error.",
        _SERVER,
    )


TROUBLE: Final = (
    Story("last-ack-lost", "client (active closer)", "server (passive closer)", _last_ack_lost),
    Story(
        "last-ack-lost-without-time-wait",
        "client (active closer)",
        "server (passive closer)",
        _last_ack_lost_without,
    ),
    Story("old-segment", "client (active closer)", "server (passive closer)", _old_segment),
    Story(
        "late-data-in-time-wait", "client (active closer)", "server (passive closer)", _late_data
    ),
    Story(
        "old-segment-without-time-wait",
        "client (active closer)",
        "server (passive closer)",
        _old_segment_without,
    ),
)
