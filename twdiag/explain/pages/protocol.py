"""The topics of the protocol: how a close works, and why TIME_WAIT exists."""

from __future__ import annotations

from typing import Final

from twdiag.explain.diagram import close_chart, state_diagram
from twdiag.explain.page import Drawing
from twdiag.explain.pages.topic import topic

_CLOSE: Final = Drawing(lambda ascii, width: close_chart(ascii=ascii, width=width))
_MACHINE: Final = Drawing(lambda ascii, width: state_diagram(ascii=ascii, width=width))

PAGES: Final = (
    topic(
        "states",
        "The 11 states and how one leads to the next",
        "The whole state machine in one drawing.",
        """
        Left: what the active closer goes through. Right: the passive closer. Middle: what only
        happens when both close at once, and TIME_WAIT. On each arrow stands what causes it and,
        after the slash, which segment is sent.

        The kernel, netstat, ss and the RFC spell the names differently (TIME_WAIT, TIME-WAIT;
        ESTABLISHED, ESTAB; SYN_RECV, SYN-RECV, SYN-RECEIVED). FIN_WAIT alone is no state: there are
        FIN_WAIT1 (the FIN is not yet acknowledged) and FIN_WAIT2 (it is).
        """,
        drawing=_MACHINE,
        see=("four-way-close", "three-way-open", "active-and-passive-closer"),
        cites=("RFC 9293 section 3.3.2 and figure 5", "include/net/tcp_states.h"),
    ),
    topic(
        "active-and-passive-closer",
        "Active closer and passive closer",
        "Who closes first has the FIN_WAITs and TIME_WAIT, whether client or server.",
        """
        The active closer is the end whose application closes first. It goes through FIN_WAIT1,
        FIN_WAIT2 and TIME_WAIT. The other end is the passive closer: CLOSE_WAIT, LAST_ACK, and it
        is gone. Being client or server has nothing to do with it: an HTTP server that answers with
        "Connection: close", or whose keep-alive time is over, is the active closer.

        So a TIME_WAIT says who closed first: there is one for each connection, at that end. Only a
        simultaneous close leaves one at each end.

        On a server look at the local port of its TIME_WAITs: if it is the port of a listener, this
        server closes first. If the remote port is a service, it is a client here that closes first.

        A process that is stopped or killed closes all its sockets: a stopped server becomes the
        active closer of its idle connections.
        """,
        drawing=_CLOSE,
        see=("who-should-close", "server-closes-first", "connection-churn", "TIME_WAIT"),
        cites=(
            "RFC 9293 section 3.6",
            "measured on Linux 6.18: 3 server-first and 2 client-first closes on loopback gave "
            "just these 5 rows",
            "measured on Linux 6.18: SIGKILL of an idle server makes it the active closer",
        ),
    ),
    topic(
        "why-four-segments",
        "Why the close takes four segments (and sometimes three)",
        "Two streams, each ended by its sender and confirmed by its receiver.",
        """
        A connection is two independent streams of bytes. Each must be ended by the end that sends
        it, because only that end knows when it has sent everything: FIN. And each FIN must be
        acknowledged, because a FIN can be lost: without the ACK its sender would not know whether
        the other end still waits for data that will never come. FIN, ACK, FIN, ACK.

        The two in the middle come from the same end, but not at the same time: its kernel
        acknowledges at once, while its application may still have work to do or data to send. If it
        has nothing left, both travel in one segment, and the close has three.

        The open can always join the two (SYN,ACK), because a server has nothing to say before its
        own SYN.

        Without a FIN neither end could tell "finished" from "slow": it would have to wait for ever,
        or guess and lose data. That is what the close is for.
        """,
        drawing=_CLOSE,
        see=("four-way-close", "three-segment-close", "why-the-last-ack", "half-close"),
        cites=("RFC 9293 section 3.6", "RFC 9293 section 3.6.1 (half-closed)"),
    ),
    topic(
        "why-the-last-ack",
        "Why the last ACK is needed, and what if it is lost",
        "The passive closer must learn that its FIN, and so all its data, arrived.",
        """
        The passive closer's FIN ends its data. If it were lost, the active closer would go on
        waiting in FIN_WAIT2 for data that does not come. So the passive closer keeps the FIN, and
        sends it again, until the ACK comes: that is LAST_ACK.

        The last ACK itself is acknowledged by nothing (that would never end). So its sender stays
        around for a while, in case the FIN comes again: that is TIME_WAIT. It sends the ACK
        at the beginning of TIME_WAIT, at once, and again whenever the FIN comes again.
        """,
        see=("last-ack-lost", "LAST_ACK", "TIME_WAIT", "final-ack-after-2msl"),
        cites=("RFC 9293 section 3.6", "RFC 9293 section 3.10.7.4"),
    ),
    topic(
        "why-the-first-fin-carries-ack",
        "Why the first FIN carries an ACK",
        "Every segment after the first SYN does; it is not a sign of half-close.",
        """
        In a capture the first segment of a close is FIN,ACK. Some notes say that the ACK is there
        because of half-close, as if it meant "I still listen". It is simpler: the ACK bit is set in
        every segment of an open connection, with the number of the next byte expected. A receiver
        drops segments without it. Only the very first SYN (and some RSTs) come without.

        What is true: the ack number in that FIN tells the other end how far it was received, as in
        any segment; and after its FIN the active closer does go on receiving and acknowledging
        (half-close). It would do so even if the FIN carried no ACK.
        """,
        see=("flags", "half-close", "four-way-close"),
        cites=(
            "RFC 9293 section 3.1 (ACK bit), section 3.10.7.4 (fifth: if the ACK bit is off, drop)",
            "RFC 9293 section 3.10.4 (CLOSE)",
        ),
    ),
    topic(
        "why-time-wait",
        "Why TIME_WAIT exists: two reasons",
        "To repeat the last ACK, and to let old segments die before the ports are used again.",
        """
        - The last ACK may be lost. Then the peer sends its FIN again, and somebody must answer it.
          With TIME_WAIT the answer is an ACK, and the peer ends in good order; without, it is a
          RST, and the peer ends with an error.

        - Old segments may still be on their way. If a new connection with the same two addresses
          and ports began at once, such a segment could be taken for one of its own. TIME_WAIT keeps
          the ports out of use until the network has forgotten the old segments.

        Neither reason is to receive data that comes late. A close completes only when every byte
        has arrived, because the FIN has the number after the last byte. What comes in TIME_WAIT is
        a copy, and is thrown away.

        It is the active closer that waits, because it sends the last ACK.

        Other protections exist beside it: initial sequence numbers that grow, and TCP timestamps,
        by which a receiver refuses old segments (PAWS). They make it safe to reuse a TIME_WAIT
        early, which is what tcp_tw_reuse and RFC 6191 do.
        """,
        see=(
            "last-ack-lost",
            "last-ack-lost-without-time-wait",
            "old-segment",
            "old-segment-without-time-wait",
            "late-data-in-time-wait",
            "how-long-is-time-wait",
        ),
        cites=(
            "RFC 9293 section 3.6.1",
            "RFC 1337",
            "RFC 6191",
            "RFC 7323 section 5 (PAWS)",
        ),
    ),
    topic(
        "how-long-is-time-wait",
        "How long is TIME_WAIT? 2MSL, 30 s, 60 s, 2 min, 4 min, 240 s",
        "On Linux 60 s, compiled in; the other numbers are MSLs and other systems.",
        """
        MSL, the maximum segment lifetime, is how long a segment can be in the network at most. It
        is a time, with delays in queues reckoned in, and a careful guess; the TTL (hop limit) in
        the IP header counts routers, not seconds. TIME_WAIT should last two of them: one for the
        last ACK to reach the peer or die, one for the peer's FIN to come back.

        = 2 minutes: the MSL that RFC 793 chose and RFC 9293 keeps ("an engineering choice"). So
        2MSL is 4 minutes, which is the 240 s of many notes. RFC 1122 repeats 2MSL without a number.

        = 30 s: the MSL of Berkeley-derived systems. So 2MSL is 60 s there.

        = 1 to 4 minutes: 2MSL for an MSL between 30 s and 2 minutes, as older books write.

        = 60 s: TIME_WAIT on Linux: TCP_TIMEWAIT_LEN in include/net/tcp.h, compiled in. Linux has no
        MSL of its own to set; calling it "an MSL of 30 s" is only arithmetic. No sysctl
        changes it; tcp_fin_timeout, also 60 by default, is another thing.

        On Linux the timer is coarse: 60 to 62 s are seen (at 250 timer ticks a second), and sockets
        die in batches. A FIN, data or an ACK of the peer that comes meanwhile starts it anew.

        $ ss -tano state time-wait  # no timer above 60 s, ever
        """,
        see=("TIME_WAIT", "tcp-fin-timeout-shortens-time-wait", "time-wait-lasts-240-seconds"),
        cites=(
            "RFC 793 section 3.3, RFC 9293 section 3.4.2 (MSL is 2 minutes)",
            "RFC 1122 section 4.2.2.13 (TIME-WAIT: 2 x MSL)",
            "TCP_TIMEWAIT_LEN in include/net/tcp.h",
            "measured on Linux 6.18: 40 lifetimes, 60.002 to 62.000 s",
            "measured on Linux 6.18: 60 s with tcp_fin_timeout 5 and with 120",
        ),
    ),
    topic(
        "half-close",
        "Half-close: done sending, still listening",
        "shutdown(SHUT_WR) ends one stream and keeps the other open.",
        """
        A client that has sent its request faces a question: until when must the server read? If the
        client keeps both directions open, the server waits for more. If it closes both, the answer
        is lost. Half-close is the way out: the client ends its own stream (FIN) and keeps reading.
        The server reads end of file, knows that the request is complete, sends its answer, and
        closes. The client in FIN_WAIT2 receives it, the server in CLOSE_WAIT sends it.

        Instead of a FIN an application could mark the end in the data, with a length or a special
        byte. A special byte can occur in binary data too; a FIN cannot be mistaken. Protocols that
        send lengths (HTTP) do not need half-close, and many applications do not expect it.

        TCP allows half-close in any close: between segments 2 and 3 every connection is
        half-closed. Usually that lasts a moment; if it lasts, look at who is slow (CLOSE_WAIT).

        $ ss -tano state fin-wait-2  # no timer and an inode: half-closed by shutdown()
        """,
        see=("half-close-with-data", "FIN_WAIT2", "CLOSE_WAIT", "graceful-and-abrupt"),
        cites=("RFC 9293 section 3.6.1", "shutdown(2)"),
    ),
    topic(
        "graceful-and-abrupt",
        "Graceful and abrupt release: FIN and RST",
        "FIN: all data arrives and both ends agree. RST: it is over, now, and data may be lost.",
        """
        A graceful release is the 4-way close: each end says FIN when it is done, and each FIN is
        acknowledged. An abrupt release is one segment, RST: the receiver drops the connection and
        its application gets ECONNRESET. Nothing acknowledges a RST, there is no TIME_WAIT, and
        what was under way is lost.

        A RST is sent when:

        - a segment that is no RST arrives for a connection that does not exist (also a SYN to a
          port where nobody listens: connect() fails with ECONNREFUSED)

        - an application aborts: SO_LINGER with 0 s

        - an application closes with unread data in its receive buffer

        - data arrives after close(): nobody is left to read it

        - a listener is closed while connections wait to be accepted

        - keepalive or the retries are exhausted, so the other end is given up

        - an ACK arrives in SYN_SENT for something never sent (an old connection at the peer)

        Middleboxes send RSTs too. Some notes name segments with a bad header as a cause; Linux
        drops a segment with a wrong checksum without a word.

        $ nstat -az TcpOutRsts TcpEstabResets  # RSTs sent; connections that were reset
        $ nstat -az TcpExtTCPAbortOnClose TcpExtTCPAbortOnData  # unread data; SO_LINGER 0
        """,
        see=("abrupt-close", "close-with-unread-data", "four-way-close", "linger-zero-is-the-cure"),
        cites=(
            "RFC 9293 section 3.5.2 and 3.5.3 (reset generation and processing)",
            "RFC 9293 section 3.10.5 (ABORT)",
            "measured on Linux 6.18: which counter moves for which RST",
        ),
    ),
    topic(
        "flags",
        "The TCP flags, from NS to FIN",
        "Eight control bits, and a ninth with a history.",
        """
        The header has a control bit for each; a segment can have several.

        = NS (now AE): the ninth bit, in front of the others. NS (ECN nonce, RFC 3540) should reveal
        hosts that hide congestion marks; it was never deployed and is historic (RFC 8311). The bit
        is used again as AE by Accurate ECN (RFC 9768).

        = CWR, congestion window reduced: the sender has slowed down because of an ECE.

        = ECE, ECN echo: a router marked congestion on the way to me. In a SYN it says: I can do
        ECN.

        = URG, urgent: the urgent pointer counts. Nearly unused; new applications should not.

        = ACK, acknowledgment: the ack number counts: I have everything before it. Set in every
        segment after the first SYN.

        = PSH, push: give the data to the application now; more is not under way at once.

        = RST, reset: the connection is over or does not exist (graceful-and-abrupt).

        = SYN, synchronize: my sequence numbers begin here. Takes one number.

        = FIN, finish: I have nothing more to send. Takes one number, so it can be acknowledged.

        Captures write them as letters: tcpdump [S], [S.], [.], [P.], [F.], [R] (the dot is ACK);
        W and E are CWR and ECE.
        """,
        see=("why-the-first-fin-carries-ack", "three-way-open", "graceful-and-abrupt"),
        cites=(
            "RFC 9293 section 3.1 and section 6 (registry of the bits)",
            "RFC 3168 (ECE, CWR)",
            "RFC 3540, RFC 8311 section 3 (NS, historic), RFC 9768 (AE)",
            "RFC 6093 (URG)",
        ),
    ),
)
