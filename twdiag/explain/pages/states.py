"""The pages of the 11 states: where a socket stands, whose move it is, and how to see it."""

from __future__ import annotations

from functools import partial
from typing import Final

from twdiag.explain.diagram import close_chart, label, state_diagram
from twdiag.explain.page import Block, Drawing, Heading, Item, Kind, Page, Text, prose
from twdiag.tcp import PHASES, State, Transition, transitions_from, transitions_into

_ORDER: Final = (
    State.LISTEN,
    State.SYN_SENT,
    State.SYN_RECV,
    State.ESTABLISHED,
    State.FIN_WAIT1,
    State.FIN_WAIT2,
    State.CLOSING,
    State.TIME_WAIT,
    State.CLOSE_WAIT,
    State.LAST_ACK,
    State.CLOSE,
)
"""The states in the order in which a connection lives through them."""

_NOTES: Final = {
    State.LISTEN: """
        A listener is not a connection and never becomes one: each SYN makes a new entry, each
        finished handshake a new socket in the accept queue, where accept() takes it.

        In LISTEN, ss shows other things in its columns: Recv-Q is the number of connections that
        wait for accept(), Send-Q the backlog. The queue takes backlog + 1; when it is full, SYNs
        are dropped, and ListenOverflows and ListenDrops count each of them. Connections that wait
        there can be closed by the client: they are CLOSE_WAIT without an owner.

        $ ss -ltn  # Recv-Q above Send-Q: nobody accepts fast enough
        $ nstat -az TcpExtListenOverflows TcpExtListenDrops  # dropped since boot
        """,
    State.SYN_SENT: """
        The application is inside connect() (or polls for it). Nothing came back: the SYN or its
        answer is lost, a firewall drops it, the server's accept queue is full, or the address does
        not exist. A closed port is different: it answers with RST, and connect() fails at once
        with ECONNREFUSED.

        Many SYN_SENT to one destination mean that this destination does not answer. The port is in
        use all the while.

        $ ss -tano state syn-sent  # timer:(on,...): when the SYN is sent again, and how often yet
        $ sysctl net.ipv4.tcp_syn_retries  # 6: connect() gives up after about 130 s
        """,
    State.SYN_RECV: """
        The server's kernel has answered a SYN. There is no socket yet, only a small request entry,
        and no application knows of it. It becomes ESTABLISHED with the client's ACK.

        Many SYN_RECV are a flood of SYNs, or clients that the SYN+ACK does not reach. With SYN
        cookies the kernel keeps no entry at all under a flood.

        $ ss -tan state syn-recv
        $ nstat -az TcpExtSyncookiesSent TcpExtTCPReqQFullDoCookies
        """,
    State.ESTABLISHED: """
        Either end may send and either may close. Who closes first becomes the active closer and
        will keep the TIME_WAIT. An idle connection is no load on the network at all: no segment is
        sent, and so nobody notices when the other end vanishes (see peer-vanished).

        The counter CurrEstab, and "estab" of `ss -s`, count CLOSE_WAIT too: a leak hides there.

        $ ss -tan state established
        $ ss -tano state established  # timer:(keepalive,...): who would notice a vanished peer
        """,
    State.FIN_WAIT1: """
        The FIN was sent, or waits behind data that the peer does not take. It lasts one round trip;
        what stays in this state has one of two reasons:

        - timer:(on,...): the FIN is being sent again and nothing answers. The peer or the way to
          it is gone. An orphan gives up after 8 retries, about 108 s.

        - timer:(persist,...): the peer answers, but its receive window is zero: its application
          does not read. Send-Q is the unsent data plus one for the FIN.

        $ ss -tano state fin-wait-1  # the timer tells which of the two
        $ nstat -az TcpExtTCPAbortOnTimeout  # orphans that gave up
        """,
    State.FIN_WAIT2: """
        There are two kinds, and they have little in common:

        - After close(): an orphan, kept by the kernel in a small structure without owner and inode.
          net.ipv4.tcp_fin_timeout (60 s) limits it. If the peer's FIN comes in time it becomes a
          TIME_WAIT with a fresh 60 s; if not, it is forgotten.

        - After shutdown(SHUT_WR): a half-closed socket that an application still holds. No timer
          ends it, however long the peer takes.

        At the other end the socket is in CLOSE_WAIT: the application there has not closed. Many
        FIN_WAIT2 here are a leak there.

        $ ss -tano state fin-wait-2  # timer:(timewait,...): an orphan; no timer: held by a process
        $ sysctl net.ipv4.tcp_fin_timeout
        """,
    State.CLOSING: """
        It lasts one round trip. Afterwards both ends are in TIME_WAIT: the only close that leaves
        two. What stays in CLOSING has lost its peer: 8 retries, about 108 s.

        $ ss -tano state closing
        """,
    State.TIME_WAIT: """
        It stands at the end that closed first, whatever its part: server or client. The close is
        complete and the application is done with it. The kernel keeps a small structure of about
        256 bytes: no process, no descriptor, no inode, no user.

        Two reasons: a lost last ACK must be sent again when the peer's FIN comes again
        (last-ack-lost), and segments that are still on their way must not reach a new connection
        with the same addresses and ports (old-segment).

        It lasts 60 s, counted from the last FIN, data or ACK of the peer; the timer is coarse, so
        60 to 62 s are seen. No sysctl changes that. Because the timers are visible, one look at
        them is the history of the last minute: how many connections were closed in each second.

        At a server it costs little: a client that connects again from the same port is let in at
        once (syn-meets-time-wait). At a client each one holds one local port towards its
        destination for 60 s: that is how ports run out (ephemeral-ports).

        $ ss -tano state time-wait  # timer:(timewait,47sec,0): 47 s left, so it closed 13 s ago
        $ twdiag diagnose  # who closes first, how fast, and where it will settle
        $ nstat -az TcpExtTW TcpExtTCPTimeWaitOverflow  # made so far; refused for lack of room
        """,
    State.CLOSE_WAIT: """
        The peer has said that it is done; its FIN was acknowledged by the kernel. This application
        has not called close(). Sending is still allowed: half-close is legal, and a CLOSE_WAIT of a
        second is nothing. One of an hour is a fault of this application.

        No timer and no sysctl ends it. It keeps a descriptor and memory as long as the process
        lives, and ends at "Too many open files".

        Recv-Q says where the application stands (recv-q): 0: drained and not closed; 1: only the
        FIN is unread; more: data is unread, the reader is stuck. Without an inode the connection
        was never accepted.

        $ ss -tanp state close-wait  # as root: with the process and descriptor
        $ twdiag diagnose  # leaked, unread, never accepted or idle pool; owners and ages
        """,
    State.LAST_ACK: """
        The passive closer has closed too; its FIN is not acknowledged. It lasts one round trip.
        What stays has lost its peer, or its ACKs are dropped: 8 retries, about 108 s.

        There is no TIME_WAIT after it: the passive closer knows that all it sent has arrived.

        $ ss -tano state last-ack
        """,
    State.CLOSE: """
        No connection. The kernel keeps nothing, so no tool shows it; ss calls a socket that is
        neither connected nor listening UNCONN. A segment for such ports is answered with RST
        (unless it is a RST itself).

        A descriptor may be left all the same: after a RST the connection is gone and the
        application still holds the socket, which is then seen in /proc/PID/fd only.

        $ ls -l /proc/PID/fd | grep -c socket:  # sockets that a process holds, closed ones too
        """,
}

_SEE: Final = {
    State.LISTEN: ("three-way-open", "accept-queue-full", "CLOSE_WAIT"),
    State.SYN_SENT: ("three-way-open", "syn-unanswered", "ephemeral-ports"),
    State.SYN_RECV: ("three-way-open", "flags"),
    State.ESTABLISHED: ("active-and-passive-closer", "peer-vanished"),
    State.FIN_WAIT1: ("fin-lost", "peer-vanished", "orphans", "fin-unanswered"),
    State.FIN_WAIT2: ("fin-wait2-and-tcp-fin-timeout", "half-close", "peer-never-closes"),
    State.CLOSING: ("simultaneous-close", "TIME_WAIT"),
    State.TIME_WAIT: ("why-time-wait", "how-long-is-time-wait", "who-should-close", "myths"),
    State.CLOSE_WAIT: ("recv-q", "close-wait-for-ever", "close-wait-leak", "half-close"),
    State.LAST_ACK: ("last-ack-lost", "syn-meets-last-ack", "orphans"),
    State.CLOSE: ("graceful-and-abrupt", "fin-is-resent-for-ever"),
}

_MEASURED: Final = {
    State.LISTEN: ("measured on Linux 6.18: backlog 5 takes 6; each dropped SYN counts +1 and +1",),
    State.SYN_SENT: ("net.ipv4.tcp_syn_retries: Documentation/networking/ip-sysctl.rst",),
    State.ESTABLISHED: ("tcp_set_state() in net/ipv4/tcp.c: CurrEstab counts CLOSE_WAIT",),
    State.FIN_WAIT1: ("measured on Linux 6.18: orphan gone after 108.0 s, 8 retries",),
    State.FIN_WAIT2: ("measured on Linux 6.18: tcp_fin_timeout 5: gone after 5.25 s",),
    State.TIME_WAIT: (
        "TCP_TIMEWAIT_LEN in include/net/tcp.h",
        "measured on Linux 6.18: 40 lifetimes from 60.002 to 62.000 s",
        "measured on Linux 6.18: 246 closes read back from their timers, error below 2 ms",
    ),
    State.CLOSE_WAIT: ("measured on Linux 6.18: Recv-Q 0, 1 and n of CLOSE_WAIT",),
    State.LAST_ACK: ("measured on Linux 6.18: orphan gone after 108.0 s, 8 retries",),
    State.CLOSE: ("RFC 9293 section 3.10.7.1", "measured on Linux 6.18: closed sockets in no dump"),
}


def _names(state: State) -> str:
    """Return how the tools spell a state."""
    return f"{state.name} (kernel, netstat), {state.ss} (ss), {state.rfc} (RFC 9293)"


def _facts(state: State) -> tuple[Block, ...]:
    phase = PHASES[state]
    step = f", after segment {phase.step} of the close" if phase.step else ""
    return (
        _fact("Role", phase.role.value + step),
        _fact("Waits for", f"{phase.waits_for.value}: {phase.next}"),
        _fact("Ends", phase.ends),
        _fact("Spelled", _names(state)),
    )


def _fact(name: str, text: str) -> Item:
    return Item(text, f"{name:10}")


def _way(move: Transition, *, into: bool) -> Item:
    """Return one transition in words."""
    sends = f", sends {move.sends.value}" if move.sends else ""
    other = label(move.before if into else move.after)
    note = f" ({move.note})" if move.note else ""
    linux = "" if move.linux else " [RFC only, not on Linux]"
    mark = "<-" if into else "->"
    return Item(f"{other}: {move.event.value}{sends}{note}{linux}", mark)


def state_page(state: State) -> Page:
    """Return the page of a state."""
    phase = PHASES[state]
    body: tuple[Block, ...] = (
        Drawing(partial(_chart, state)),
        *_facts(state),
        Heading("What to know"),
        *prose(_NOTES[state]),
        Heading("Ways in"),
        *(_way(move, into=True) for move in transitions_into(state)),
        Heading("Ways out"),
        *(_way(move, into=False) for move in transitions_from(state)),
        Heading("In the state diagram (cause / segment sent)"),
        Drawing(partial(_machine, state)),
        Text("Not drawn: resets, retries that run out, and segments that are answered again."),
    )
    cites = (phase.section, *_MEASURED.get(state, ()))
    name = label(state) if state is State.CLOSE else state.name
    return Page(
        name, Kind.STATE, f"{name}: {phase.meaning}", phase.meaning, body, _SEE[state], cites
    )


def _chart(state: State, ascii: bool, width: int) -> list[str]:
    return close_chart(state, ascii=ascii, width=width)


def _machine(state: State, ascii: bool, width: int) -> list[str]:
    return state_diagram(state, ascii=ascii, width=width)


PAGES: Final = tuple(state_page(state) for state in _ORDER)
