"""How a connection ends without a handshake: RST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.play import Scenario
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
    Scenario("abrupt-close", "client (aborts)", "server", _abrupt_close),
    Scenario("close-with-unread-data", "client", "server (closes too early)", _unread_data),
)
