"""How a connection ends without a handshake: RST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.story import Story
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay

_CLIENT, _SERVER = ChartSide.LEFT, ChartSide.RIGHT


def _abrupt_close(play: StoryPlay) -> None:
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


def _unread_data(play: StoryPlay) -> None:
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
        "What the server had sent before is not lost: a client on Linux still reads it, and "
        "then gets ECONNRESET. Lost is what the server did not read.",
    )


def _request_meets_close(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(
        _SERVER,
        Event.CLOSE,
        "the keep-alive time is over: close()",
        "The connection was idle for as long as the server allows.",
    )
    request = play.write(
        _CLIENT,
        300,
        "send(request)",
        "In the same moment the client takes the connection from its pool. The FIN has not "
        "arrived: everything looks well.",
    )
    ack = play.answer(fin, "Now it has. But the request is on its way.")
    reset = play.refuse(
        request,
        "The request finds a socket without an application: nobody will ever read it.",
    )
    late = play.answer(ack, "The ACK of the FIN comes too late: there is nothing left to close.")
    play.arrive(
        reset,
        "The client gets an error for a request that the server has never seen. It may send it "
        "again on a new connection; whether it does is up to its library.",
    )
    play.arrive(late, "Too late, too. A closed end ignores a RST.")


ABRUPT: Final = (
    Story("abrupt-close", "client (aborts)", "server", _abrupt_close),
    Story("close-with-unread-data", "client", "server (closes too early)", _unread_data),
    Story(
        "request-meets-close", "client (with a pool)", "server (closes idle)", _request_meets_close
    ),
)
