"""What happens when the same ports are wanted again: a new SYN, and a server's restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import ChartSide
from twdiag.explain.stories.closing import expire, first_two, last_fin
from twdiag.explain.story import Story
from twdiag.tcp.segments import Event

if TYPE_CHECKING:
    from twdiag.explain.play import StoryPlay

_CLIENT, _SERVER = ChartSide.LEFT, ChartSide.RIGHT


def _syn_meets_last_ack(play: StoryPlay) -> None:
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


def _syn_meets_time_wait(play: StoryPlay) -> None:
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
        "(a newer timestamp would do as well, an older one would not). TIME_WAIT gives way, and "
        "the listener takes it. The server starts its own numbers above all old ones.",
    )
    play.arrive(play.answer(answer), "Nothing waited for 60 s.")


def _old_syn_meets_time_wait(play: StoryPlay) -> None:
    play.established(left=1001, right=5001)
    fin = play.call(_SERVER, Event.CLOSE, "close()", "The server is the active closer.")
    play.arrive(play.answer(fin))
    fin = play.call(_CLIENT, Event.CLOSE, "close()", "The client closes too.")
    play.arrive(play.answer(fin, "TIME_WAIT is at the server."))
    play.renew(_CLIENT, initial=700)
    syn = play.call(
        _CLIENT,
        Event.ACTIVE_OPEN,
        "connect() from the same port",
        "This SYN could be a stray from the past: here its number is lower. On Linux the timestamp "
        "is asked first, and an older one is refused whatever the number: two hosts behind one NAT "
        "address have their own clocks.",
    )
    doubt = play.answer(syn, "So the server does not believe it, and says what it expects.")
    reset = play.answer(
        doubt,
        "The client knows nothing of these numbers and answers with a RST, as anybody does who is "
        "asked about a connection that he does not have.",
    )
    play.arrive(
        reset,
        "The RST has exactly the number that the server expects: it is genuine, and it ends the "
        "TIME_WAIT. With net.ipv4.tcp_rfc1337=1 it is ignored instead, every SYN starts the 60 s "
        "anew, and connect() fails.",
    )
    play.renew(_SERVER, initial=80000)
    play.happen(
        _SERVER,
        Event.PASSIVE_OPEN,
        "(the listener is still there)",
        "Nothing stands between the client and the listener any more.",
    )
    play.pause("the client's SYN timer: on Linux some ms")
    answer = play.answer(play.resend(syn), "The same SYN once more.")
    play.arrive(play.answer(answer), "Open, 12 ms later than usual.")


def _bind_fails(play: StoryPlay) -> None:
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
    Story("syn-meets-last-ack", "client", "server (in LAST_ACK)", _syn_meets_last_ack),
    Story(
        "syn-meets-time-wait",
        "client (passive closer)",
        "server (active closer)",
        _syn_meets_time_wait,
    ),
    Story(
        "old-syn-meets-time-wait",
        "client (passive closer)",
        "server (active closer)",
        _old_syn_meets_time_wait,
    ),
    Story(
        "bind-fails-after-restart", "client (passive closer)", "server (active closer)", _bind_fails
    ),
)
