"""How a connection ends in good order: four segments, three, crossed, and half-closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.story import Scenario
from twdiag.tcp import TIME_WAIT_SECONDS, Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play
    from twdiag.explain.story import Packet

_CLIENT, _SERVER = Side.LEFT, Side.RIGHT


def first_two(play: Play) -> None:
    """Play the first half of the close: the client's FIN and the ACK of it."""
    fin = play.call(
        _CLIENT,
        Event.CLOSE,
        "close()",
        "The client's application has nothing more to send. Who closes first is the active "
        "closer, from here to the end.",
    )
    ack = play.answer(
        fin,
        "The FIN takes one sequence number (1001), as a byte would, so that it can be acknowledged "
        "and sent again. The server's application now reads end of file: recv() returns 0.",
    )
    play.arrive(
        ack,
        "The server's kernel acknowledges at once, without asking the application. The connection "
        "is half-closed: nothing more comes from the client, the server may still send.",
    )


def last_fin(play: Play) -> Packet:
    """Let the server's application close too, and return its FIN."""
    return play.call(
        _SERVER,
        Event.CLOSE,
        "close()",
        "Whatever the server had to finish is finished. Until the application does this the "
        "socket stays in CLOSE_WAIT: no timer does it instead.",
    )


def expire(play: Play, *sides: Side) -> None:
    """Let the 60 s of TIME_WAIT pass, at the client unless another end is named."""
    play.wait(
        f"{TIME_WAIT_SECONDS} s",
        Event.TIME_WAIT_EXPIRES,
        *(sides or (_CLIENT,)),
        why="The ports are free again for the same pair of addresses.",
    )


def _four_way_close(play: Play) -> None:
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


def _half_close(play: Play) -> None:
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


def _three_segment_close(play: Play) -> None:
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


def _simultaneous_close(play: Play) -> None:
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
    Scenario(
        "four-way-close",
        "The ordinary 4-way close",
        "Each direction is closed and acknowledged by itself: FIN, ACK, FIN, ACK.",
        "client (active closer)",
        "server (passive closer)",
        _four_way_close,
        """
        Four segments, because a connection is two streams, one in each direction, and each is ended
        by the one who sends it. The FIN says that its sender has sent everything; without it the
        receiver could not tell a finished stream from a slow one. The ACK says that everything up
        to and with the FIN arrived; without it the sender could not forget its data. So no data is
        lost in a close, and both know it.

        Segments 2 and 4 are sent by the kernels at once. Segments 1 and 3 are sent when an
        application calls close() or shutdown(), or ends. So a socket that stays in CLOSE_WAIT
        waits for its own application, and a socket that stays in FIN_WAIT2 waits for the
        application at the other end.

        Here the client closes first. The server may just as well: then the server has FIN_WAIT1,
        FIN_WAIT2 and TIME_WAIT, and the client has CLOSE_WAIT and LAST_ACK.
        """,
        see=(
            "why-four-segments",
            "half-close",
            "three-segment-close",
            "last-ack-lost",
            "TIME_WAIT",
            "CLOSE_WAIT",
        ),
        cites=("RFC 9293 section 3.6 and figure 12",),
    ),
    Scenario(
        "half-close-with-data",
        "Half-close, with data still flowing",
        "One end has said everything and still listens to the other.",
        "client (active closer)",
        "server (passive closer)",
        _half_close,
        """
        shutdown(fd, SHUT_WR) sends the FIN and keeps the socket: "I am done talking, but I still
        listen". close() would send the same FIN, but data that comes after it is answered with RST,
        because nobody is left to read it (measured on Linux 6.18: the server closed, the client
        sent data to the orphaned FIN_WAIT2, and got RST).

        A FIN_WAIT2 made by shutdown() has no time limit: net.ipv4.tcp_fin_timeout is only for
        sockets whose application has called close().
        """,
        see=("half-close", "FIN_WAIT2", "CLOSE_WAIT", "graceful-and-abrupt"),
        cites=(
            "RFC 9293 section 3.6 (half-close)",
            "RFC 1122 section 4.2.2.13",
            "measured on Linux 6.18: data to a FIN_WAIT2 after close() is answered with RST",
        ),
    ),
    Scenario(
        "three-segment-close",
        "The close in three segments: FIN and ACK combined",
        "A passive closer with nothing more to say puts its ACK and its FIN into one segment.",
        "client (active closer)",
        "server (passive closer)",
        _three_segment_close,
        """
        This is what a capture of a plain request and answer often shows. It is no other protocol:
        segments 2 and 3 of the ordinary close travel together. It happens when the passive closer
        closes before its kernel has sent the delayed ACK.

        In a capture, look at the second FIN: if its ack number covers the first FIN and no ACK came
        before it, this is the case.
        """,
        see=("four-way-close", "why-four-segments", "four-segments-always"),
        cites=(
            "RFC 9293 section 3.10.7.4 (FIN-WAIT-1: if our FIN is now acknowledged)",
            "RFC 9293 section 3.8.6.3 (delayed acknowledgments)",
        ),
    ),
    Scenario(
        "simultaneous-close",
        "The simultaneous close",
        "Both ends close before either hears of it: both are active closers.",
        "one end",
        "the other end",
        _simultaneous_close,
        """
        CLOSING lasts one round trip, so it is rarely seen. A socket that stays in CLOSING has sent
        its FIN and gets no ACK for it: the network or the other end is gone.

        This is the one close that leaves two TIME_WAITs. Everywhere else the end with the
        TIME_WAIT is the one that closed first.
        """,
        see=("CLOSING", "active-and-passive-closer", "TIME_WAIT"),
        cites=(
            "RFC 9293 section 3.6 and figure 13",
            "measured on Linux 6.18: one TIME_WAIT row at each end",
        ),
    ),
)
