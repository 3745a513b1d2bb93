"""How a connection ends without a handshake: RST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.story import Scenario
from twdiag.tcp import Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play

_CLIENT, _SERVER = Side.LEFT, Side.RIGHT


def _abrupt_close(play: Play) -> None:
    play.established(left=1001, right=5001)
    data = play.write(_SERVER, 200, "send(200 bytes)", "The server is still sending...")
    reset = play.call(
        _CLIENT,
        Event.ABORT,
        "SO_LINGER 0 and close()",
        "The client throws the connection away: it forgets what it wanted to send and what it has "
        "not read.",
    )
    late = play.answer(data, "... but nobody is left to take it.")
    play.arrive(
        reset,
        "The server's application gets ECONNRESET. There is no answer to a RST, no TIME_WAIT at "
        "either end, and no certainty which data arrived.",
    )
    play.arrive(late, "A second RST, for the data. A closed end ignores it.")


def _unread_data(play: Play) -> None:
    play.established(left=1001, right=5001)
    data = play.write(_CLIENT, 500, "send(500 bytes)", "The client sends a large request...")
    play.arrive(play.answer(data, "... which reaches the server's receive buffer."))
    reset = play.call(
        _SERVER,
        Event.ABORT,
        "close() with unread data",
        "The server answers and closes without having read it all. Unread data would be lost "
        "silently, so the kernel says RST instead of FIN (TCPAbortOnClose counts it).",
    )
    play.arrive(
        reset,
        "The RST may even reach the client before it has read the answer, and take it away.",
    )


ABRUPT: Final = (
    Scenario(
        "abrupt-close",
        "The abrupt release: SO_LINGER 0 and RST",
        "RST ends both ends at once: no handshake, no TIME_WAIT, and data may be lost.",
        "client (aborts)",
        "server",
        _abrupt_close,
        """
        SO_LINGER with a time of 0 makes close() send RST (TCPAbortOnData counts it). It does avoid
        TIME_WAIT, at the price of all that the close guarantees: data still under way is lost, the
        other end sees an error, and old segments may reach the next connection on these ports. It
        is right for giving up on a broken peer, and wrong as a cure for TIME_WAIT.
        """,
        see=("graceful-and-abrupt", "linger-zero-is-the-cure", "close-with-unread-data"),
        cites=(
            "RFC 9293 section 3.10.5 (ABORT)",
            "measured on Linux 6.18: SO_LINGER 0, TCPAbortOnData +1, no TIME_WAIT",
        ),
    ),
    Scenario(
        "close-with-unread-data",
        "close() with unread data sends RST",
        "The commonest RST that nobody asked for: the application did not read all it was sent.",
        "client",
        "server (closes too early)",
        _unread_data,
        """
        The cure is in the application: read to the end of file before closing, or call
        shutdown(SHUT_WR), read until end of file, and then close().

        An unread FIN is not unread data: a CLOSE_WAIT with Recv-Q 1 is closed with FIN, one with
        Recv-Q above 1 with RST (measured on Linux 6.18).
        """,
        see=("graceful-and-abrupt", "recv-q", "abrupt-close"),
        cites=(
            "RFC 1122 section 4.2.2.13 (close with unread data)",
            "RFC 2525 section 2.17",
            "measured on Linux 6.18: TCPAbortOnClose +1",
        ),
    ),
)
