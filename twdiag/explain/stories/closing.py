"""How a connection ends in good order: four segments, three, crossed, and half-closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.story import Story
from twdiag.tcp import TIME_WAIT_SECONDS
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay
    from twdiag.explain.steps import Packet

_CLIENT, _SERVER = ChartSide.LEFT, ChartSide.RIGHT


def first_two(play: StoryPlay) -> None:
    """Play the first half of the close: the client's FIN and the ACK of it."""
    fin = play.call(
        _CLIENT,
        Event.CLOSE,
        "close()",
        "The client's application has nothing more to send. Whoever closes first is the active "
        "closer, from here to the end.",
    )
    ack = play.answer(
        fin,
        "The FIN takes one sequence number (1001), as a byte would, so that it can be acknowledged "
        "and sent again. The server's application now reads end of file: recv() returns 0.",
    )
    play.arrive(
        ack,
        "The server's kernel acknowledges without asking the application, within about 40 ms. "
        "The connection is half-closed: nothing more comes from the client, the server may "
        "still send.",
    )


def last_fin(play: StoryPlay) -> Packet:
    """Let the server's application close too, and return its FIN."""
    return play.call(
        _SERVER,
        Event.CLOSE,
        "close()",
        "Whatever the server had to finish is finished. Until the application does this the "
        "socket stays in CLOSE_WAIT: no timer closes it instead.",
    )


def expire(play: StoryPlay, *sides: ChartSide) -> None:
    """Let the 60 s of TIME_WAIT pass, at the client unless another end is named."""
    play.wait(
        f"{TIME_WAIT_SECONDS} s",
        Event.TIME_WAIT_EXPIRES,
        *(sides or (_CLIENT,)),
        why="The ports are free again for the same pair of addresses.",
    )


def _four_way_close(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    first_two(play)
    ack = play.answer(
        last_fin(play),
        "The server's FIN says: nothing more from me either. The client acknowledges it and "
        "enters TIME_WAIT in the same moment.",
    )
    play.arrive(
        ack,
        "The passive closer is done: it knows that its FIN arrived. The active closer does not "
        "know whether this last ACK arrived. That is what TIME_WAIT is for.",
    )
    expire(play)


def _half_close(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(
        _CLIENT,
        Event.CLOSE,
        "shutdown(SHUT_WR)",
        "The client sent its whole request and says so, but keeps its socket to read the answer.",
    )
    ack = play.answer(
        fin, "The server reads end of file: it knows that the request is complete. It may go on."
    )
    play.arrive(ack, "One direction is closed, the other is open: half-closed.")
    data = play.write(
        _SERVER, 200, "send(200 bytes)", "CLOSE_WAIT may send: that is the point of half-close."
    )
    ack = play.answer(data, "The client in FIN_WAIT2 receives as in ESTABLISHED.")
    play.arrive(ack, "And it acknowledges: a FIN ends the client's data, not its ACKs.")
    ack = play.answer(last_fin(play), "End of the answer. Nothing was cut off on either side.")
    play.arrive(ack, "Both directions are closed.")
    expire(play)


def _three_segment_close(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client is the active closer.")
    ack = play.answer(
        fin,
        "The server's application is waiting in recv(), sees end of file and closes at once. The "
        "kernel has not sent the ACK yet (it delays ACKs a little)...",
    )
    play.withhold(ack)
    combined = play.call(
        _SERVER,
        Event.CLOSE,
        "close() at once",
        "... so the FIN carries it: FIN and ACK of the FIN in one segment.",
    )
    last = play.answer(
        combined, "FIN_WAIT1 goes straight to TIME_WAIT: nobody ever sees FIN_WAIT2 here."
    )
    play.arrive(last, "Three segments instead of four; the states at the end are the same.")
    expire(play)


def _simultaneous_close(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    left = play.call(_CLIENT, Event.CLOSE, "close()", "Both applications close...")
    right = play.call(_SERVER, Event.CLOSE, "close()", "... before either has heard of the other.")
    first, second = play.cross(
        left,
        right,
        "Each end expected the ACK of its FIN and got a FIN instead. Each acknowledges it and "
        "waits on, in CLOSING.",
    )
    play.finish_crossing(
        first, second, "The ACKs cross too. Both ends were active closers: both keep a TIME_WAIT."
    )
    expire(play, _CLIENT, _SERVER)


CLOSING: Final = (
    Story("four-way-close", "client (active closer)", "server (passive closer)", _four_way_close),
    Story("half-close-with-data", "client (active closer)", "server (passive closer)", _half_close),
    Story(
        "three-segment-close",
        "client (active closer)",
        "server (passive closer)",
        _three_segment_close,
    ),
    Story("simultaneous-close", "one end", "the other end", _simultaneous_close),
)
