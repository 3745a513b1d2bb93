"""What TIME_WAIT is for: the last ACK is lost, and an old segment comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import Side
from twdiag.explain.scenarios.closing import expire, first_two, last_fin
from twdiag.explain.story import Scenario
from twdiag.tcp import Event

if TYPE_CHECKING:
    from twdiag.explain.play import Play
    from twdiag.explain.story import Packet

_CLIENT, _SERVER = Side.LEFT, Side.RIGHT


def _no_time_wait(play: Play) -> None:
    play.happen(
        _CLIENT,
        Event.TIME_WAIT_EXPIRES,
        "no TIME_WAIT: gone at once",
        "Linux really does this when tcp_max_tw_buckets is reached: the socket is closed without "
        "a TIME_WAIT, and TCPTimeWaitOverflow counts it.",
    )


def _lost_last_ack(play: Play) -> Packet:
    """Play a close up to the loss of the last ACK; return the server's FIN."""
    play.established(left=1001, right=5001)
    first_two(play)
    fin = last_fin(play)
    last = play.answer(fin, "The client acknowledges, and for itself the close is complete.")
    play.lose(last, "The network loses the last ACK. The client cannot know that.")
    return fin


def _last_ack_lost(play: Play) -> None:
    fin = _lost_last_ack(play)
    play.pause("the server's timer runs out")
    again = play.answer(
        play.resend(fin),
        "No ACK came, so the server sends its FIN again. The client still knows the connection: "
        "it is in TIME_WAIT. The FIN starts the 60 s anew.",
    )
    play.arrive(again, "The ACK is sent again. The server leaves LAST_ACK in good order.")
    expire(play)


def _last_ack_lost_without(play: Play) -> None:
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
        "firewall swallow the FIN or the RST, the server repeats the FIN: 8 times, about 108 s.",
    )


def _first_incarnation(play: Play) -> Packet:
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


def _old_segment(play: Play) -> None:
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


def _late_data(play: Play) -> None:
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


def _old_segment_without(play: Play) -> None:
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
    Scenario(
        "last-ack-lost",
        "The last ACK is lost, and TIME_WAIT repeats it",
        "The first reason for TIME_WAIT: somebody must be there to acknowledge a resent FIN.",
        "client (active closer)",
        "server (passive closer)",
        _last_ack_lost,
        """
        The last ACK is the only segment of the close that nothing acknowledges. So its sender must
        stay until a resent FIN can no longer come: that is TIME_WAIT. The ACK goes out at once,
        when the FIN arrives, at the beginning of TIME_WAIT, not at its end.

        Measured on Linux 6.18: a resent FIN to a TIME_WAIT with 58.5 s left is answered with an
        ACK, and the timer is back at 60 s.
        """,
        see=("TIME_WAIT", "LAST_ACK", "last-ack-lost-without-time-wait", "why-time-wait"),
        cites=(
            "RFC 9293 section 3.6.1 and section 3.10.7.4 (TIME-WAIT: FIN)",
            "measured on Linux 6.18: resent FIN, timer 58.5 s -> 60 s, answered with ACK",
        ),
    ),
    Scenario(
        "last-ack-lost-without-time-wait",
        "The last ACK is lost, and there is no TIME_WAIT",
        "Without TIME_WAIT the resent FIN is answered with RST: the close ends with an error.",
        "client (active closer)",
        "server (passive closer)",
        _last_ack_lost_without,
        """
        It is often written that without TIME_WAIT the server would resend its FIN for ever. It
        would not: a host without the connection answers the first resent FIN with RST, and the
        server's connection ends there, with an error (ECONNRESET where an application still looks).
        Only where nothing answers, a FIN is resent: an orphan gives up after 8 retries, about
        108 s (measured on Linux 6.18; net.ipv4.tcp_orphan_retries).
        """,
        see=("last-ack-lost", "fin-is-resent-for-ever", "fin-lost", "syn-meets-last-ack"),
        cites=(
            "RFC 9293 section 3.10.7.1 (CLOSED answers with RST)",
            "measured on Linux 6.18: LAST_ACK orphan gone after 108.0 s, 8 retries",
            "measured on Linux 6.18: above tcp_max_tw_buckets sockets close without TIME_WAIT",
        ),
    ),
    Scenario(
        "old-segment",
        "A delayed segment of an old connection, with TIME_WAIT",
        "The second reason for TIME_WAIT: old segments must die before the ports are used again.",
        "client (active closer)",
        "server (passive closer)",
        _old_segment,
        """
        A connection is named by four things only: two addresses and two ports. A segment does not
        say to which of two connections with the same four it belongs. So the name must rest until
        every old segment is gone: two times the longest life of a segment (2MSL), one for the way
        there and one for an answer that it may cause.

        TIME_WAIT does not wait in order to receive the old segment's data. Those bytes arrived long
        ago by retransmission, or the close could not have completed. It waits so that nobody
        receives them a second time.
        """,
        see=("why-time-wait", "old-segment-without-time-wait", "data-is-lost-without-time-wait"),
        cites=("RFC 9293 section 3.6.1", "RFC 1337 section 1 (old duplicates)"),
    ),
    Scenario(
        "late-data-in-time-wait",
        "Late data reaches TIME_WAIT",
        "It is a copy of bytes that were received long ago: thrown away, and nothing is lost.",
        "client (active closer)",
        "server (passive closer)",
        _late_data,
        """
        Notes often say that TIME_WAIT lets the closed socket receive data that comes late, or that
        this data would be lost without it. Neither is so. TCP numbers its bytes, and the FIN has
        the number after the last byte: the close cannot complete while a byte is missing. What
        comes late is a second copy. TIME_WAIT throws it away; without TIME_WAIT a RST would answer
        it, or, worse, a new connection would take it for its own.

        Measured on Linux 6.18: data to a TIME_WAIT with 58.5 s left is answered with an ACK and
        puts the timer back to 60 s; a RST with the expected number ends the TIME_WAIT at once,
        unless net.ipv4.tcp_rfc1337 is 1.
        """,
        see=("old-segment", "data-is-lost-without-time-wait", "why-time-wait"),
        cites=(
            "RFC 9293 section 3.10.7.4",
            "RFC 1337 section 2 (hazards), section 3 (fixes)",
            "measured on Linux 6.18: data and RST to a TIME_WAIT",
        ),
    ),
    Scenario(
        "old-segment-without-time-wait",
        "A delayed segment of an old connection, without TIME_WAIT",
        "The new connection takes an old segment for its own: its data is corrupted, silently.",
        "client (active closer)",
        "server (passive closer)",
        _old_segment_without,
        """
        For this to happen the same ports must be used again soon, and the old number must lie in
        the new window. Both are rare on one quiet connection, and not rare on a busy host with
        large windows. Three things guard against it: initial sequence numbers that grow with time,
        TCP timestamps (an old segment has an old timestamp and is refused: PAWS), and TIME_WAIT.
        With timestamps a TIME_WAIT can be reused early and safely: that is what
        net.ipv4.tcp_tw_reuse relies on.
        """,
        see=(
            "old-segment",
            "late-data-in-time-wait",
            "syn-meets-time-wait",
            "tcp-tw-reuse-on-a-server",
            "why-time-wait",
        ),
        cites=(
            "RFC 1337 section 1",
            "RFC 7323 section 5 (PAWS)",
            "RFC 9293 section 3.4.1 (initial sequence numbers)",
            "RFC 6191 section 1",
        ),
    ),
)
