"""What happens when one end is silent: a lost FIN, a vanished peer, an application that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.scenarios.closing import expire, first_two, last_fin
from twdiag.explain.story import Scenario
from twdiag.tcp import Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play

_CLIENT, _SERVER = Side.LEFT, Side.RIGHT


def _fin_lost(play: Play) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client closes first.")
    play.lose(
        fin,
        "The FIN is lost. The server knows of nothing: for it the connection is as open as before, "
        "and it would wait for data for ever.",
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


def _peer_vanished(play: Play) -> None:
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
        "8 retries, about 108 s in all",
        Event.RETRIES_EXHAUSTED,
        _CLIENT,
        why="The application closed, so the socket is an orphan and gives up after 8 retries "
        "(net.ipv4.tcp_orphan_retries=0 means 8). There is no TIME_WAIT: nobody is left to need "
        "it. TCPAbortOnTimeout counts it.",
    )


def _close_wait_for_ever(play: Play) -> None:
    play.established(left=1001, right=5001)
    first_two(play)
    play.note(
        "the application does not close",
        "It forgot the socket, hangs in another call, or has not even accepted it. Its kernel has "
        "done its part: the FIN is acknowledged. Only close() leads on.",
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


UNANSWERED: Final = (
    Scenario(
        "fin-lost",
        "The FIN is lost",
        "A FIN that nothing acknowledges is sent again: the sender waits in FIN_WAIT1.",
        "client (active closer)",
        "server (passive closer)",
        _fin_lost,
        """
        FIN_WAIT1 lasts one round trip when all is well. Sockets that stay in it are resending:
        `ss -tano state fin-wait-1` shows timer:(on,...) with the number of retries, or
        timer:(persist,...) when the peer lives but its window is zero: it does not read, so the
        data before the FIN cannot be sent.

        A FIN that is lost without being resent would leave the other end waiting for ever for data
        that will not come. So the FIN has a sequence number, is acknowledged, and is resent.
        """,
        see=("FIN_WAIT1", "peer-vanished", "orphans", "why-four-segments"),
        cites=(
            "RFC 9293 section 3.8.1 (retransmission timeout)",
            "measured on Linux 6.18: FIN resent after 0.2, 0.4, 0.8, 1.6 s and so on",
        ),
    ),
    Scenario(
        "peer-vanished",
        "The peer has vanished",
        "No ACK and no RST: the FIN is resent until the retries are used up.",
        "client (active closer)",
        "server",
        _peer_vanished,
        """
        While the application still holds the socket (it called shutdown(), not close()) the limit
        is net.ipv4.tcp_retries2 and takes far longer: such a FIN_WAIT1 was still alive after 108 s
        and 9 retries (measured on Linux 6.18).

        If no end closes, nothing is sent, and nobody notices at all: the survivor stays
        ESTABLISHED for ever. Only keepalive (SO_KEEPALIVE, first probe after 2 hours by default)
        or a timeout of the application finds out.
        """,
        see=("FIN_WAIT1", "orphans", "fin-lost", "ESTABLISHED"),
        cites=(
            "RFC 9293 section 3.8.3 (connection failures), section 3.8.4 (keep-alives)",
            "measured on Linux 6.18: orphan gone after 108.0 s, TCPAbortOnTimeout +1",
        ),
    ),
    Scenario(
        "close-wait-for-ever",
        "CLOSE_WAIT that is never closed, and the peer's FIN_WAIT2",
        "One application does not close: its socket stays for ever, the peer's for 60 s.",
        "client (active closer)",
        "server (passive closer)",
        _close_wait_for_ever,
        """
        The two ends of one fault: the host with CLOSE_WAIT has the bug, the host with FIN_WAIT2
        suffers from it. FIN_WAIT2 ends by itself if its application called close(); if it called
        shutdown() and waits, FIN_WAIT2 stays as long as CLOSE_WAIT does.

        No sysctl ends CLOSE_WAIT. Find the process and the code that keeps the socket: Recv-Q says
        where it stands (see recv-q).

        Measured on Linux 6.18 with tcp_fin_timeout=2: 2.5 s after the server's close its socket is
        gone, the client still is in CLOSE_WAIT, and the client's late close is answered with RST.
        """,
        see=("CLOSE_WAIT", "FIN_WAIT2", "recv-q", "close-wait-times-out"),
        cites=(
            "RFC 1122 section 4.2.2.13",
            "measured on Linux 6.18: FIN_WAIT2 expired, the late FIN got a RST",
        ),
    ),
)
