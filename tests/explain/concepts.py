"""Every concept of the five seed notes, the page that covers it, and words that must stand there.

Note 1: why TIME_WAIT is needed.  Note 2: the 4-way handshake with drawings.  Note 3: the 3-way and
4-way handshakes, a learning diary.  Note 4: TIME-WAIT in the 4-way handshake.  Note 5: the 4-way
handshake, flags, half-close.  Where a note is wrong, the page must say what is true (marked WRONG).
"""

from __future__ import annotations

from typing import NamedTuple

from twdiag.analysis.port_use import HOLD_SECONDS


class Concept(NamedTuple):
    """A concept: the notes that have it, what it is, its page, and what must stand there."""

    notes: tuple[int, ...]
    what: str
    page: str
    pattern: str


CONCEPTS = (
    # The close, step by step.
    Concept(
        (1, 2, 3, 4, 5),
        "the close is for releasing a connection reliably",
        "why-four-segments",
        r"finished.*slow.*That is what the close is for",
    ),
    Concept(
        (1,),
        "active closer: the end that closes first",
        "active-and-passive-closer",
        r"active closer is the end whose application closes first",
    ),
    Concept(
        (1,),
        "passive closer: the other end",
        "active-and-passive-closer",
        r"passive closer: CLOSE_WAIT, LAST_ACK",
    ),
    Concept(
        (1, 2, 3),
        "WRONG: the client is the one who closes first",
        "only-clients-have-time-wait",
        r"Whoever closes first has it",
    ),
    Concept((1, 5), "the ACK flag", "flags", r"ACK, acknowledgment the ack number counts"),
    Concept((1, 5), "the FIN flag", "flags", r"FIN, finish I have nothing more to send"),
    Concept(
        (1, 2, 3, 4, 5),
        "step 1: the active closer sends FIN",
        "four-way-close",
        r"1  FIN,ACK seq=1001",
    ),
    Concept((1, 2, 5), "step 1: it enters FIN_WAIT1", "four-way-close", r"FIN_WAIT1 \| close\(\)"),
    Concept(
        (1, 2, 3, 4, 5),
        "step 2: the passive closer's ACK",
        "four-way-close",
        r"FIN_WAIT2 \|<-+ 2  ACK",
    ),
    Concept(
        (1,),
        "step 2: the application is told (end of file)",
        "four-way-close",
        r"application now reads end of file",
    ),
    Concept((1, 2, 3, 5), "step 2: it enters CLOSE_WAIT", "four-way-close", r">\| CLOSE_WAIT"),
    Concept(
        (1, 2, 5),
        "the ACK brings the active closer to FIN_WAIT2",
        "FIN_WAIT2",
        r"<- FIN_WAIT1: the ACK of the FIN arrives",
    ),
    Concept(
        (3,),
        "WRONG: a state named FIN_WAIT",
        "states",
        r"FIN_WAIT alone is no state",
    ),
    Concept(
        (2, 5),
        "the ACK confirms; it does not release at once: CLOSE_WAIT prepares",
        "four-way-close",
        r"stays in CLOSE_WAIT: no timer closes it instead",
    ),
    Concept(
        (2,), "after step 2 the connection is half-closed", "four-way-close", r"is half-closed"
    ),
    Concept(
        (1, 2, 3, 4, 5),
        "step 3: the passive closer's FIN when its application is done",
        "four-way-close",
        r"Whatever the server had to finish is finished",
    ),
    Concept((1, 2, 5), "step 3: it enters LAST_ACK", "four-way-close", r"close\(\) \| LAST_ACK"),
    Concept(
        (1, 2, 3, 4, 5),
        "step 4: the active closer acknowledges",
        "four-way-close",
        r"4  ACK seq=1002 ack=5002",
    ),
    Concept((1, 2, 3, 4, 5), "step 4: it enters TIME_WAIT", "four-way-close", r"TIME_WAIT \|<-+ 3"),
    Concept(
        (1, 2, 5), "the ACK ends the passive closer", "LAST_ACK", r"-> CLOSED: the ACK of the FIN"
    ),
    Concept(
        (1, 2, 3, 5),
        "TIME_WAIT ends after 2MSL in CLOSED",
        "TIME_WAIT",
        r"-> CLOSED: the 2MSL timer runs out",
    ),
    Concept(
        (2,),
        "what an application finishes between steps 2 and 3: data in CLOSE_WAIT",
        "half-close-with-data",
        r"CLOSE_WAIT may send",
    ),
    Concept(
        (2,),
        "sequence numbers: FIN seq=x is acknowledged with x+1",
        "four-way-close",
        r"FIN takes one sequence number",
    ),
    Concept((2,), "the state diagram of the close", "states", r"FIN_WAIT1.*CLOSING.*CLOSE_WAIT"),
    Concept(
        (3, 4),
        "the difference between CLOSE_WAIT and TIME_WAIT",
        "CLOSE_WAIT",
        r"This application has not called close",
    ),
    Concept(
        (3, 4),
        "the difference between TIME_WAIT and CLOSE_WAIT, other side",
        "TIME_WAIT",
        r"The close is complete, and the application is done",
    ),
    # Why four.
    Concept(
        (2, 5),
        "four segments because both directions close independently",
        "why-four-segments",
        r"two independent streams",
    ),
    Concept(
        (5,),
        "the server may still be sending when the client is done",
        "why-four-segments",
        r"its application may still have work to do or data to send",
    ),
    Concept(
        (3,),
        "without a clear end the other end would wait for ever",
        "why-four-segments",
        r"it would have to wait forever, or guess and lose data",
    ),
    Concept(
        (3,),
        "the close makes sure that no data is lost",
        "four-way-close",
        r"So no data is lost in a close",
    ),
    Concept(
        (2,),
        "FIN means: no more data from me",
        "why-four-segments",
        r"it has sent everything: FIN",
    ),
    Concept(
        (3,),
        "why the last ACK: a lost FIN would leave the other end waiting",
        "why-the-last-ack",
        r"would go on waiting in FIN_WAIT2 for data that does not come",
    ),
    Concept(
        (3,),
        "the sender of a FIN must know that it arrived",
        "fin-lost",
        r"is acknowledged, and is resent",
    ),
    # TIME_WAIT.
    Concept(
        (1, 2, 3, 4, 5),
        "reason 1: the last ACK may be lost, the FIN is sent again",
        "last-ack-lost",
        r"5  FIN,ACK seq=5001 ack=1002 resent",
    ),
    Concept(
        (2,),
        "in TIME_WAIT the ACK can be sent again",
        "last-ack-lost",
        r"6  ACK seq=1002 ack=5002 -+>\| CLOSED",
    ),
    Concept(
        (2, 5),
        "the passive closer stays in LAST_ACK and tries again",
        "LAST_ACK",
        r"its FIN is not acknowledged",
    ),
    Concept(
        (1, 4),
        "WRONG: without TIME_WAIT the FIN is resent for ever and loads the network",
        "fin-is-resent-for-ever",
        r"answers the first resent FIN with RST.*not endless traffic",
    ),
    Concept(
        (1, 4),
        "what really happens without TIME_WAIT: RST and an error",
        "last-ack-lost-without-time-wait",
        r"RST seq=1002.*ends there, with an error",
    ),
    Concept(
        (1, 2, 3, 4, 5),
        "reason 2: segments that are late",
        "why-time-wait",
        r"Old segments may still be on their way",
    ),
    Concept(
        (1, 3, 4, 5),
        "WRONG: TIME_WAIT keeps late data from being lost",
        "data-is-lost-without-time-wait",
        r"No data is lost",
    ),
    Concept(
        (3, 4),
        "late data (a resent segment) that comes in TIME_WAIT",
        "late-data-in-time-wait",
        r"The old copy comes in TIME_WAIT. It is thrown away",
    ),
    Concept(
        (4,),
        "WRONG: a request answered after the close breaks TCP's reliability",
        "data-is-lost-without-time-wait",
        r"stays in FIN_WAIT2, the peer sends the bytes again",
    ),
    Concept(
        (2, 5),
        "an old segment mixed into a new connection",
        "old-segment-without-time-wait",
        r"100 of a connection that is long over",
    ),
    Concept(
        (5,),
        "by accident the sequence number fits",
        "old-segment-without-time-wait",
        r"lies in the window of the new connection",
    ),
    Concept(
        (5,),
        "a new SYN meets LAST_ACK",
        "syn-meets-last-ack",
        r"5  SYN seq=90000",
    ),
    Concept(
        (5,),
        "WRONG: LAST_ACK answers with RST and the new connection fails",
        "last-ack-answers-rst",
        r"challenge ACK.*SYN is sent again and succeeds",
    ),
    Concept(
        (5,),
        "TIME_WAIT must last a certain time",
        "why-time-wait",
        r"until the network has forgotten the old segments",
    ),
    Concept(
        (1,),
        "servers can have TIME_WAIT too",
        "only-clients-have-time-wait",
        r"Many servers do",
    ),
    Concept(
        (4,),
        "delay, reordering and loss make the network uncertain",
        "old-segment",
        r"two times the longest life of a segment",
    ),
    Concept(
        (5,),
        "WRONG: the final ACK is sent after the wait",
        "final-ack-after-2msl",
        r"It sends it at once, at the beginning of TIME_WAIT",
    ),
    # How long.
    Concept((1, 2, 5), "2MSL", "how-long-is-time-wait", r"TIME_WAIT should last two of them"),
    Concept(
        (2, 5),
        "MSL: the longest life of a segment",
        "how-long-is-time-wait",
        r"MSL, the maximum segment lifetime",
    ),
    Concept(
        (2,),
        "MSL is not the TTL",
        "how-long-is-time-wait",
        r"the TTL \(hop limit\) in the IP header counts routers, not seconds",
    ),
    Concept((2,), "Linux: 60 s", "how-long-is-time-wait", r"TIME_WAIT on Linux: TCP_TIMEWAIT_LEN"),
    Concept(
        (2,),
        "WRONG: Linux has an MSL of 30 s",
        "how-long-is-time-wait",
        r'calling it "an MSL of 30 s" is only arithmetic',
    ),
    Concept(
        (2, 3),
        "WRONG: 60 to 240 s; 240 s by default",
        "time-wait-lasts-240-seconds",
        r"On Linux 60 s, compiled in\..*240 s is 2MSL",
    ),
    Concept(
        (5,),
        "1 to 4 minutes",
        "how-long-is-time-wait",
        r"1 to 4 minutes 2MSL for an MSL between 30 s and 2 minutes",
    ),
    Concept(
        (5,),
        "WRONG: RFC 1122 recommends an MSL of 2 minutes",
        "how-long-is-time-wait",
        r"MSL that RFC 793 chose.*RFC 1122 repeats 2MSL without a number",
    ),
    Concept(
        (5,),
        "Berkeley: 30 s",
        "how-long-is-time-wait",
        r"30 s the MSL of Berkeley-derived systems",
    ),
    # Half-close.
    Concept(
        (1,),
        "why the first FIN carries an ACK",
        "why-the-first-fin-carries-ack",
        r"the ACK bit is set in every segment of an open connection",
    ),
    Concept(
        (1,),
        "WRONG: because of half-close",
        "fin-carries-ack-because-of-half-close",
        r"Every segment after the first SYN carries an ACK",
    ),
    Concept(
        (1,),
        "half-close: closing, but still listening",
        "half-close-with-data",
        r"I am done talking, but I still listen",
    ),
    Concept(
        (1,),
        "the ack number tells how far the other end was received",
        "why-the-first-fin-carries-ack",
        r"tells the other end how much of its data has arrived",
    ),
    Concept(
        (5,),
        "until when must a receiver read? The two bad answers",
        "half-close",
        r"until when must the server read\?.*the server waits for more.*the answer is lost",
    ),
    Concept(
        (5,),
        "a stream goes in one direction; a connection has two",
        "why-four-segments",
        r"A connection is two independent streams",
    ),
    Concept(
        (5,),
        "half-close ends the own output after the last data",
        "half-close",
        r"the client ends its own stream \(FIN\) and keeps reading",
    ),
    Concept(
        (5,),
        "a special byte as end mark fails in binary data",
        "half-close",
        r"A special byte can occur in binary data too",
    ),
    Concept((5,), "half-close is not obligatory", "half-close", r"\(HTTP\) do not need half-close"),
    # Flags.
    Concept(
        (5,), "nine flag bits", "flags", r"NS \(now AE\) the ninth bit, in front of the others"
    ),
    Concept((5,), "NS", "flags", r"NS \(ECN nonce, RFC 3540\)"),
    Concept((5,), "CWR", "flags", r"CWR, congestion window reduced"),
    Concept((5,), "ECE", "flags", r"ECE, ECN echo a router marked congestion"),
    Concept((5,), "URG", "flags", r"URG, urgent the urgent pointer counts"),
    Concept((5,), "PSH", "flags", r"PSH, push give the data to the application now"),
    Concept((5,), "RST", "flags", r"RST, reset the connection is over"),
    Concept((5,), "SYN", "flags", r"SYN, synchronize my sequence numbers begin here"),
    # Abrupt and graceful.
    Concept(
        (5,),
        "graceful release",
        "graceful-and-abrupt",
        r"A graceful release is the 4-way close",
    ),
    Concept(
        (5,),
        "abrupt release: RST when there is no time for four segments",
        "graceful-and-abrupt",
        r"An abrupt release is one segment, RST",
    ),
    Concept(
        (5,),
        "RST: a segment for a connection that does not exist",
        "graceful-and-abrupt",
        r"arrives for a connection that does not exist",
    ),
    Concept(
        (5,),
        "RST: a bad header",
        "graceful-and-abrupt",
        r"Some notes name segments with a bad header",
    ),
    Concept(
        (5,),
        "RST: an implementation wants to end a connection",
        "graceful-and-abrupt",
        r"an application aborts: SO_LINGER with 0 s",
    ),
    Concept(
        (5,),
        "RST: the remote host does not answer any more",
        "graceful-and-abrupt",
        r"keepalive gives the other end up \(retries that run out send no RST",
    ),
    # Open.
    Concept(
        (3,), "step 1 of the open: SYN, SYN_SENT", "three-way-open", r"SYN_SENT \| connect\(\)"
    ),
    Concept(
        (3,),
        "step 2 of the open: SYN+ACK, SYN_RECEIVED",
        "three-way-open",
        r"1  SYN seq=1000 -+>\| SYN_RECV",
    ),
    Concept(
        (3,),
        "step 3 of the open: ACK, ESTABLISHED",
        "three-way-open",
        r"3  ACK seq=1001 ack=5001 -+>\| ESTABLISHED",
    ),
    Concept(
        (3,),
        "why an open: both ends are ready to send",
        "three-way-open",
        r"both ends are ready to send and to receive",
    ),
    Concept((3,), "the name SYN_RECEIVED", "SYN_RECV", r"SYN-RECEIVED \(RFC 9293\)"),
    # Six claims that are wrong, and the words that tell the difference.
    Concept(
        (2,),
        "WRONG: only real data of an old connection harms, not a FIN",
        "only-old-data-harms",
        r"An old FIN that fits ends the new connection early.*An old RST that fits ends it at once",
    ),
    Concept(
        (3,),
        "WRONG: FIN_WAIT begins with the ACK",
        "fin-wait-begins-with-the-ack",
        r"enters FIN_WAIT1 when it sends the FIN",
    ),
    Concept(
        (3,),
        "WRONG: after the last ACK the client is CLOSED",
        "closed-after-the-last-ack",
        r"It goes to TIME_WAIT, and to CLOSED 60 s later",
    ),
    Concept(
        (4,),
        "WRONG: the last ACK says that the client is ready to end",
        "last-ack-means-ready",
        r"your FIN has arrived, and with it everything before it",
    ),
    Concept(
        (5,),
        "WRONG: TIME_WAIT gives the server time for late packets",
        "time-wait-gives-the-server-time",
        r"By then the server has everything",
    ),
    Concept(
        (5,),
        "WRONG: RST when the remote host is unreachable",
        "unreachable-means-rst",
        r"A host that cannot be reached sends nothing.*no RST goes out",
    ),
    Concept(
        (3, 4),
        "CLOSE_WAIT and TIME_WAIT side by side",
        "close-wait-and-time-wait",
        r"who closed first +the other end +this end",
    ),
    # Development.
    Concept(
        (2,),
        "WRONG: a server must never be the active closer",
        "who-should-close",
        r'"A server must never close first" is too strong',
    ),
    Concept(
        (2,),
        "because of TIME_WAIT bind() fails at restart",
        "bind-fails-after-restart",
        r"restart: bind\(\) -> EADDRINUSE",
    ),
    Concept(
        (2,),
        "remedy 1: let the client close first",
        "who-should-close",
        r"so that the clients close first",
    ),
    Concept((2,), "remedy 2: connection pooling", "who-should-close", r"connection pools"),
    Concept((5,), "solving CLOSE_WAIT", "close-wait-for-ever", r"Find the process and the code"),
    Concept((1,), "the final analysis of CLOSE_WAIT", "close-wait-times-out", r"No sysctl ends it"),
)


class Statement(NamedTuple):
    """What a page once said wrongly, or without its condition, and what must stand there."""

    page: str
    what: str
    pattern: str


STATEMENTS = (
    # What bind() takes into account.
    Statement(
        "reuse-options",
        "SO_REUSEPORT is needed on both sockets, as SO_REUSEADDR is",
        r"needed on \| the old socket and the new one \| the old socket and the new one",
    ),
    Statement(
        "reuse-options",
        "SO_REUSEPORT helps against what is left over",
        r"against leftovers \(TIME_WAIT.*\| bind\(\) succeeds \| bind\(\) succeeds",
    ),
    Statement(
        "bind-fails-after-restart",
        "SO_REUSEPORT on both helps",
        r"SO_REUSEPORT on both sockets works as well",
    ),
    Statement(
        "reuseaddr-always-helps",
        "SO_REUSEPORT on both helps",
        r"against left-over sockets SO_REUSEPORT on both helps",
    ),
    # What a RST that is ignored costs.
    Statement(
        "old-syn-meets-time-wait",
        "tcp_rfc1337=1 makes connect() fail",
        r"tcp_rfc1337=1.*has a price: in this case connect\(\) fails",
    ),
    Statement(
        "sysctls",
        "tcp_rfc1337=1 keeps clients behind NAT out",
        r"tcp_rfc1337 \(0\).*The price: a client whose SYN looks old.*cannot connect",
    ),
    # The ACK of a FIN is a delayed one.
    Statement(
        "four-way-close",
        "the ACK of the FIN can be late, the last ACK is not",
        r"the last ACK at once, the first within about 40 ms",
    ),
    Statement(
        "four-way-close",
        "the step of the drawing says so too",
        r"acknowledges without asking the application, within about 40 ms",
    ),
    Statement(
        "why-four-segments",
        "the kernel delays the ACK",
        r"within about 40 ms: it delays the ACK a little",
    ),
    Statement(
        "FIN_WAIT1",
        "it outlasts a round trip by the delay",
        r"one round trip, and up to 40 ms more for a delayed ACK",
    ),
    # What a RST takes away.
    Statement(
        "close-with-unread-data",
        "Linux still reads what arrived; the loss is at the end that closed",
        r"lost is at the end that closed.*can still read what arrived before the RST, on Linux",
    ),
    Statement(
        "close-with-unread-data",
        "the step of the drawing says so too",
        r"a client on Linux still reads it, and then gets ECONNRESET",
    ),
    Statement(
        "linger-zero-is-the-cure",
        "a Linux peer reads before the error",
        r"ECONNRESET \(a Linux peer after it has read what arrived\)",
    ),
    Statement(
        "error-messages",
        "data before the RST can be read",
        r"arrived before the RST can still be read on Linux; the error comes after it",
    ),
    Statement(
        "error-messages",
        "EPIPE and not ECONNRESET in CLOSE_WAIT",
        r"In CLOSE_WAIT a RST is reported as EPIPE, never as ECONNRESET",
    ),
    Statement(
        "graceful-and-abrupt",
        "EPIPE in CLOSE_WAIT",
        r"gets ECONNRESET \(in CLOSE_WAIT: EPIPE\)",
    ),
    Statement(
        "graceful-and-abrupt",
        "Linux still reads what its kernel has",
        r"the receiver's kernel already has can still be read on Linux",
    ),
    # Numbers, and what they depend on.
    *(
        Statement(page, "how long an orphan lasts varies", r"8 retries, 102 to 205 s")
        for page in ("orphans", "fin-unanswered")
    ),
    *(
        Statement(
            page, "how long an orphan lasts varies", r"lost its peer.*: 8 retries, 102 to 205"
        )
        for page in ("CLOSING", "LAST_ACK")
    ),
    Statement(
        "FIN_WAIT1",
        "how long an orphan lasts varies",
        r"8 retries: 108 s at a retransmission timer of 204 ms, 102 to 205 s in all",
    ),
    Statement(
        "dead-peer", "how long an orphan lasts varies", r"FIN_WAIT1, closed \|.*102 to 205 s"
    ),
    Statement(
        "orphans", "108 s is that of one timer", r"by the round-trip time \(108 s at a timer"
    ),
    Statement(
        "how-long-is-time-wait",
        "how late the timer is depends on its ticks",
        r"60 to 62 s are seen at 250 timer ticks a second, up to 64 s at 1000",
    ),
    Statement(
        "TIME_WAIT",
        "how late the timer is depends on its ticks",
        r"60 to 62 s are seen \(64 s where the kernel ticks 1000 times a second\)",
    ),
    *(
        Statement(page, "one vendor's kernel has a sysctl for it", r"net\.ipv4\.tcp_tw_timeout")
        for page in ("how-long-is-time-wait", "TIME_WAIT", "time-wait-lasts-240-seconds")
    ),
    *(
        Statement(
            page, "how long a port is held", rf"\bports? .{{0,40}}for [a-z0-9 ]*{HOLD_SECONDS} s"
        )
        for page in ("ephemeral-ports", "who-should-close", "TIME_WAIT", "connection-churn")
    ),
    *(
        Statement(
            page,
            "so the default range allows this rate",
            rf"(?s)\b{28_232 // HOLD_SECONDS}\s+(new )?connections (a|per)\s+second",
        )
        for page in ("ephemeral-ports", "who-should-close", "connection-churn")
    ),
    Statement(
        "TIME_WAIT", "a client's takes more memory", r"256 bytes \(a client's holds two more"
    ),
    Statement("sysctls", "a client's takes more memory", r"256 bytes each, twice that at a client"),
    Statement(
        "fin-wait2-and-tcp-fin-timeout",
        "above 60 s the orphan is a full socket at first",
        r"still a full socket with a keepalive timer in ss \(its inode is 0\)",
    ),
    Statement(
        "nat-and-conntrack",
        "conntrack says FIN_WAIT first",
        r"the first FIN makes it FIN_WAIT and the ACK of that CLOSE_WAIT",
    ),
    Statement(
        "syn-meets-last-ack",
        "RFC 793 reset a SYN inside of the window only",
        r"RFC 793 did so for a SYN inside the window only",
    ),
    Statement(
        "old-segment-without-time-wait",
        "the ACK number must fit too",
        r"in the new window, and so must its ACK number \(RFC 5961\)",
    ),
    Statement(
        "fin-lost",
        "a tail loss probe comes before the timer",
        r"a tail loss probe repeats the FIN.*5 to 7 ms in a local network",
    ),
    # What had no page.
    Statement(
        "dead-peer",
        "a deadline for each state, and what sets it",
        r"ESTABLISHED, idle \| nothing \| never \| SO_KEEPALIVE",
    ),
    Statement("dead-peer", "TCP_USER_TIMEOUT", r"TCP_USER_TIMEOUT replaces it, for one socket"),
    Statement(
        "dead-peer",
        "only keepalive sends a RST when it gives up",
        r"gets ETIMEDOUT, and no RST is sent.*ETIMEDOUT too, and a RST is sent",
    ),
    Statement(
        "descriptor-copies",
        "close() beside a copy sends nothing",
        r"If a child holds a copy, close\(\) in the parent sends no FIN",
    ),
    Statement(
        "descriptor-copies",
        "shutdown() does",
        r"shutdown\(\) acts on the connection itself: it sends the FIN whoever holds copies",
    ),
    Statement("shutdown", "SHUT_RD is no message", r"SHUT_RD is no message: the peer does not"),
    Statement("shutdown", "SHUT_RD sends nothing", r"shutdown\(SHUT_RD\) \| nothing \|"),
    Statement("shutdown", "it leaves the descriptor", r"shutdown\(\) never frees the descriptor"),
    Statement("so-linger", "more than 0 waits", r"close\(\) waits until the data and the FIN are"),
    Statement("so-linger", "more than 0 is no RST", r"It is not a RST after N seconds"),
    Statement(
        "keep-alive",
        "the two are told apart",
        r"what it does \| sends an empty probe.* \| keeps the connection",
    ),
    Statement(
        "half-open",
        "a peer that rebooted answers with RST",
        r"Once it is up it answers the next segment with a RST",
    ),
    Statement(
        "syn-meets-last-ack",
        "a client's tcp_tw_reuse meets LAST_ACK",
        r"net\.ipv4\.tcp_tw_reuse: with the peer still in LAST_ACK connect\(\) took 11 ms",
    ),
    Statement(
        "idle-timeouts",
        "the keep-alive race",
        r"The FIN and the request cross.*a proxy answers 502",
    ),
)

NOWHERE = (
    ("the ACK of a FIN is sent at once", r"(kernel|server|peer) acknowledges at once"),
    ("SO_REUSEPORT is of no help", r"SO_REUSEPORT does not help"),
    ("an orphan lasts 108 s, without a condition", r"8 retries[,:] (about )?108 s(?! at)"),
    ("a port is free after 60 s", r"\b470 (new )?connections|28,232 / 60\b"),
)
"""What was wrong, and stands on no page and in no lesson of the lab again."""
