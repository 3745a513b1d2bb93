"""What happens when one end is silent: a lost FIN, a vanished peer, an application that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.stories.closing import expire, first_two, last_fin
from twdiag.explain.story import Story
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay

_CLIENT, _SERVER = ChartSide.LEFT, ChartSide.RIGHT


def _fin_lost(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client closes first.")
    play.lose(
        fin,
        "The FIN is lost. The server knows of nothing: for it the connection is as open as before, "
        "and it would wait for data forever.",
    )
    play.pause("the client's timer runs out")
    ack = play.answer(
        play.resend(fin),
        "Nothing acknowledged the FIN, so it is sent again: after 0.2 s at first, then after twice "
        "the time, and so on. This is why a FIN needs an ACK.",
    )
    play.arrive(ack, "The FIN is acknowledged. The rest is the ordinary close.")
    last = play.answer(last_fin(play))
    play.arrive(last)
    expire(play)


def _peer_vanished(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    play.vanish(
        _SERVER,
        "power or network is gone",
        "A host that loses its power sends no FIN and no RST. A firewall that forgot the "
        "connection and drops its packets looks the same.",
    )
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client closes. Its FIN goes nowhere.")
    play.lose(fin)
    for _ in range(2):
        play.lose(play.resend(fin), "Resent, each time after twice the time before.")
    play.wait(
        "8 retries, 102 to 205 s in all",
        Event.RETRIES_EXHAUSTED,
        _CLIENT,
        why="The application closed, so the socket is an orphan and gives up after 8 retries "
        "(net.ipv4.tcp_orphan_retries=0 means 8). There is no TIME_WAIT: nobody is left to need "
        "it. TCPAbortOnTimeout counts it.",
    )


def _close_wait_for_ever(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    first_two(play)
    play.note(
        "the application does not close",
        "It forgot the socket, hangs in another call, or has not even accepted it. Its kernel has "
        "done its part: the FIN is acknowledged. Only close() leads to the end of the handshake.",
        _SERVER,
    )
    play.wait(
        "net.ipv4.tcp_fin_timeout: 60 s",
        Event.FIN_WAIT2_EXPIRES,
        _CLIENT,
        why="The client called close(), so its FIN_WAIT2 is an orphan with a time limit. It is "
        "forgotten, without a TIME_WAIT. The server is not told, and stays.",
    )
    play.pause("hours later")
    fin = play.call(
        _SERVER,
        Event.CLOSE,
        "close(), or the process ends",
        "At last. Ending the process closes all its sockets: that is why a restart clears "
        "CLOSE_WAIT, until it grows again.",
    )
    reset = play.answer(fin, "The FIN meets a host that forgot the connection...")
    play.arrive(reset, "... and RST ends what nobody needed any more.")


def _half_open(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    play.vanish(
        _SERVER,
        "power is gone",
        "No FIN, no RST. The client is not told, and as long as it is silent nothing happens.",
    )
    play.boot(
        _SERVER,
        "the server is up again",
        initial=80000,
        why="It knows nothing of its old connections. Such a connection is half-open: one end "
        "has it, the other has not.",
    )
    data = play.write(
        _CLIENT,
        100,
        "send(100 bytes)",
        "The client believes in its connection. send() succeeds: it only fills a buffer.",
    )
    reset = play.answer(data, "The segment meets a host that has no such connection...")
    play.arrive(
        reset,
        "... and a RST says so. Now the client knows: ECONNRESET, for something that happened long "
        "ago. A client that only waits for data never finds out, without keepalive.",
    )


UNANSWERED: Final = (
    Story("fin-lost", "client (active closer)", "server (passive closer)", _fin_lost),
    Story("peer-vanished", "client (active closer)", "server", _peer_vanished),
    Story(
        "close-wait-for-ever",
        "client (active closer)",
        "server (passive closer)",
        _close_wait_for_ever,
    ),
    Story("half-open", "client", "server (restarts)", _half_open),
)
