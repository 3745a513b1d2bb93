"""What happens when the same ports are wanted again: a new SYN, and a server's restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.scenarios.closing import expire, first_two, last_fin
from twdiag.explain.story import Scenario
from twdiag.tcp import Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play

_CLIENT, _SERVER = Side.LEFT, Side.RIGHT


def _syn_meets_last_ack(play: Play) -> None:
    play.established(left=1001, right=5001)
    first_two(play)
    last = play.answer(last_fin(play))
    play.lose(last, "The last ACK is lost: the server stays in LAST_ACK.")
    play.happen(
        _CLIENT,
        Event.TIME_WAIT_EXPIRES,
        "no TIME_WAIT: gone at once",
        "The client forgets the connection too early (or it was restarted).",
    )
    play.renew(_CLIENT, initial=90000)
    syn = play.call(
        _CLIENT,
        Event.ACTIVE_OPEN,
        "connect() from the same port",
        "A new connection with the same addresses and ports.",
    )
    challenge = play.answer(
        syn,
        "The server still has the old connection. It must not trust a SYN here (anybody could "
        "forge one), so it asks back: an ACK with the number it expects, a challenge ACK.",
    )
    reset = play.answer(
        challenge,
        "The client never sent 1001: this ACK is not of its connection. It says so with a RST that "
        "carries just the number that was asked for.",
    )
    play.arrive(reset, "So the RST is genuine, and the server gives up the old connection.")
    play.renew(_SERVER, initial=80000)
    play.happen(
        _SERVER,
        Event.PASSIVE_OPEN,
        "(the listener is still there)",
        "The next SYN goes to the listening socket.",
    )
    play.pause("the client's SYN timer: on Linux some ms")
    answer = play.answer(play.resend(syn), "The same SYN again, and now it is welcome.")
    play.arrive(play.answer(answer), "It works, a moment later than usual.")


def _syn_meets_time_wait(play: Play) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(_SERVER, Event.CLOSE, "close()", "Here the server is the active closer.")
    play.arrive(play.answer(fin, "The client's kernel acknowledges."))
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client closes too.")
    last = play.answer(fin, "TIME_WAIT is at the server. For the client these ports are free.")
    play.arrive(last, "So the client may use the same port at once.")
    play.renew(_CLIENT, initial=90000)
    syn = play.call(
        _CLIENT, Event.ACTIVE_OPEN, "connect() from the same port", "A new connection, at once."
    )
    answer = play.answer(
        syn,
        "The SYN is provably new: its number 90000 lies above all that the old connection sent "
        "(or its timestamp is newer). TIME_WAIT gives way, and the listener takes it. The server "
        "starts its own numbers above all old ones.",
    )
    play.arrive(play.answer(answer), "Nothing waited for 60 s.")


def _bind_fails(play: Play) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(
        _SERVER,
        Event.CLOSE,
        "the server is stopped: close()",
        "A process that ends closes its sockets. So a stopped server is the active closer of all "
        "its open connections.",
    )
    play.arrive(play.answer(fin))
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The clients see end of file and close.")
    play.arrive(
        play.answer(fin, "Now the server's port is the local port of a TIME_WAIT."),
    )
    play.note(
        "restart: bind() -> EADDRINUSE",
        "Without SO_REUSEADDR bind() refuses a port that any left-over socket has: TIME_WAIT, and "
        "just as well FIN_WAIT2, CLOSE_WAIT or LAST_ACK.",
        _SERVER,
    )
    expire(play, _SERVER)
    play.happen(
        _SERVER,
        Event.PASSIVE_OPEN,
        "bind(), listen(): ok",
        "The port is free. With SO_REUSEADDR on both the old and the new listener it would have "
        "worked at once.",
    )


AGAIN: Final = (
    Scenario(
        "syn-meets-last-ack",
        "A new SYN meets LAST_ACK",
        "A challenge ACK, a RST from the client, and the second SYN succeeds.",
        "client",
        "server (in LAST_ACK)",
        _syn_meets_last_ack,
        """
        Older notes say that LAST_ACK answers the SYN with RST and that the new connection fails.
        That was RFC 793. Since RFC 5961 (and so in RFC 9293) a SYN in the middle of a connection is
        answered with a challenge ACK; the RST comes from the side that wants the new connection,
        and clears the way for it. The application notices nothing but a slower connect(): 12 ms on
        loopback, because Linux resends the SYN early after such an ACK. A system that waits for
        its ordinary SYN timer needs a second more.

        If something on the way drops the challenge ACK or the RST (a firewall that follows states
        does), connect() hangs until it times out. All this is the same where the server's old
        socket is a forgotten CLOSE_WAIT.
        """,
        see=("LAST_ACK", "last-ack-answers-rst", "syn-meets-time-wait", "why-time-wait"),
        cites=(
            "RFC 5961 section 4 (SYN: challenge ACK)",
            "RFC 9293 section 3.10.7.3 and section 3.10.7.4",
            "tcp_rcv_synsent_state_process() in net/ipv4/tcp_input.c",
            "measured on Linux 6.18: connect() over LAST_ACK 12 ms, over CLOSE_WAIT 16 ms; "
            "TCPSYNChallenge +1, OutRsts +1",
        ),
    ),
    Scenario(
        "syn-meets-time-wait",
        "A new SYN meets TIME_WAIT (RFC 6191)",
        "A listener gives up a TIME_WAIT for a SYN that is provably new.",
        "client (passive closer)",
        "server (active closer)",
        _syn_meets_time_wait,
        """
        This is why TIME_WAIT on a server costs its clients nothing: 300 connections in a row
        through one single client port took 0.02 s, with and without TCP timestamps (measured on
        Linux 6.18, the server closing first). It is always on; no sysctl belongs to it.

        A SYN that could be an old one (lower number and no newer timestamp) is refused with an
        ACK, and TIME_WAIT stays.

        The other way round, a client in TIME_WAIT that calls connect(), is another matter: there
        net.ipv4.tcp_tw_reuse decides.
        """,
        see=("TIME_WAIT", "syn-meets-last-ack", "tcp-tw-reuse-on-a-server", "who-should-close"),
        cites=(
            "RFC 6191 section 2",
            "RFC 9293 section 3.6.1",
            "net/ipv4/tcp_minisocks.c, tcp_timewait_state_process()",
            "measured on Linux 6.18: SYN to a TIME_WAIT; 300 connections in 0.02 s",
        ),
    ),
    Scenario(
        "bind-fails-after-restart",
        "The server closes first, and bind() fails at restart",
        "Left-over sockets hold the service's port: EADDRINUSE, unless SO_REUSEADDR was set.",
        "client (passive closer)",
        "server (active closer)",
        _bind_fails,
        """
        Set SO_REUSEADDR before bind(): nearly every server does. It helps only if the old listener
        had it too, because left-over sockets inherit it from there (measured on Linux 6.18, all
        states). It does not help against a live listener, nor against an outgoing connection that
        took the port as its ephemeral port: reserve the port (net.ipv4.ip_local_reserved_ports).

        Only overlapping addresses count: a TIME_WAIT on 10.77.0.1:7000 blocks 0.0.0.0, [::] and
        10.77.0.1, and leaves 127.0.0.1:7000 free.

        `twdiag diagnose --port N` says what is left on a port and until when.
        """,
        see=("who-should-close", "TIME_WAIT", "reuseaddr-always-helps", "restart-blocked"),
        cites=(
            "net/ipv4/inet_connection_sock.c, inet_bind_conflict()",
            "socket(7): SO_REUSEADDR",
            "measured on Linux 6.18: bind() against every left-over state",
        ),
    ),
)
