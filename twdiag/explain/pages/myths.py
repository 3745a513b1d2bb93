"""The myths: what is often said, what is true, and how to see it on this host."""

from __future__ import annotations

from typing import Final

from twdiag.explain.page import Heading, Item, Kind, Page, Text, prose


def _myth(
    name: str, claim: str, truth: str, see_it: str, *, see: tuple[str, ...], cites: tuple[str, ...]
) -> Page:
    """Return the page of one myth: `claim` is what is said, `see_it` the commands that show it."""
    body = (
        Heading("Often said"),
        Text(claim),
        Heading("True"),
        *prose(truth),
        Heading("See it on this host"),
        *prose(see_it),
    )
    return Page(name, Kind.MYTH, f'Myth: "{claim}"', claim, body, see, cites)


MYTHS: Final = (
    _myth(
        "tcp-fin-timeout-shortens-time-wait",
        "Lower tcp_fin_timeout to shorten TIME_WAIT.",
        """
        TIME_WAIT is 60 s, compiled into the kernel. net.ipv4.tcp_fin_timeout limits FIN_WAIT2 after
        close(); both happen to be 60 s by default, which is where the confusion comes from. Set to
        5, FIN_WAIT2 was gone after 5.25 s, and a fresh TIME_WAIT had its 60 s as before. Set above
        60, the wait in FIN_WAIT2 becomes 2 x (T - 60): 61 gives 2 s.
        """,
        """
        $ sysctl net.ipv4.tcp_fin_timeout
        $ ss -tano state time-wait  # fresh ones show timer:(timewait,59sec,0) at any setting
        """,
        see=("how-long-is-time-wait", "fin-wait2-and-tcp-fin-timeout", "misleading-sysctl"),
        cites=(
            "TCP_TIMEWAIT_LEN in include/net/tcp.h",
            "measured on Linux 6.18: fresh TIME_WAIT with 59.9 s left at tcp_fin_timeout 5 and 120",
            "measured on Linux 6.18: tcp_fin_timeout 61: FIN_WAIT2 gone after 2.06 s",
        ),
    ),
    _myth(
        "tcp-tw-recycle",
        "Enable tcp_tw_recycle.",
        """
        It is gone since Linux 4.12. Before that it refused SYNs whose timestamp was older than the
        last one seen from the same address. Behind a NAT many hosts share an address, each with its
        own clock: their connections failed at random. A line in sysctl.conf now only makes
        `sysctl -p` complain.
        """,
        """
        $ sysctl net.ipv4.tcp_tw_recycle  # "cannot stat": it does not exist
        $ grep -rs tcp_tw_recycle /etc/sysctl.conf /etc/sysctl.d  # left-over lines: delete them
        """,
        see=("nat-and-conntrack", "tcp-tw-reuse-on-a-server", "misleading-sysctl"),
        cites=("Linux 4.12, commit 4396e46187ca",),
    ),
    _myth(
        "tcp-tw-reuse-on-a-server",
        "Set tcp_tw_reuse=1 on the server to get rid of its TIME_WAITs.",
        """
        tcp_tw_reuse is for connect(): an outgoing connection may take a local port that is in
        TIME_WAIT towards the same destination. A server's TIME_WAITs stand on its listening port;
        no connect() wants that port, so nothing changes for them. They need no such setting: a
        new SYN of the same client is let in at once anyway.

        Where it does help (a busy client), it needs TCP timestamps at both ends, and the TIME_WAIT
        must be 1 s old. The default 2 allows it on loopback only.
        """,
        """
        $ sysctl net.ipv4.tcp_tw_reuse net.ipv4.tcp_timestamps
        $ nstat -az TcpExtTWRecycled  # reuses so far, all by outgoing connections
        $ ss -tanH state time-wait | awk '{print $3}' | sort | uniq -c | sort -n
        """,
        see=("syn-meets-time-wait", "ephemeral-ports", "who-should-close", "misleading-sysctl"),
        cites=(
            "tcp_twsk_unique() in net/ipv4/tcp_ipv4.c",
            "measured on Linux 6.18: mode 0, 1 and 2, with and without timestamps",
            "measured on Linux 6.18: server TIME_WAIT replaced by a SYN, TWRecycled +0",
            "Linux 4.19 (default 2), commit 79e9fed46038",
        ),
    ),
    _myth(
        "time-wait-uses-descriptors",
        "TIME_WAIT sockets use up file descriptors and CPU.",
        """
        A TIME_WAIT belongs to no process: no descriptor, no inode, no user. It is a structure of
        about 256 bytes with a timer: 100,000 of them are about 25 MB. What does use descriptors is
        CLOSE_WAIT.

        What TIME_WAIT can use up is ports, at the end that connects.
        """,
        """
        $ ss -tane state time-wait  # no uid, no ino
        $ cat /proc/net/sockstat  # tw: how many
        $ sudo grep -i tw_sock_TCP /proc/slabinfo  # their memory: number and size
        """,
        see=("TIME_WAIT", "CLOSE_WAIT", "ephemeral-ports"),
        cites=(
            "inet_twsk_diag_fill() in net/ipv4/inet_diag.c: uid 0, inode 0",
            "measured on Linux 6.18: about 256 bytes each",
        ),
    ),
    _myth(
        "lower-tcp-max-tw-buckets",
        "Lower tcp_max_tw_buckets to reduce TIME_WAIT.",
        """
        It reduces the number, not the cause. Above the limit sockets are closed without TIME_WAIT:
        the two protections are lost, silently, and only TCPTimeWaitOverflow counts it. With a
        limit of 5, closes 6, 7 and 8 left no TIME_WAIT. Existing ones stay. If the
        connection was in FIN_WAIT2, the peer stays in CLOSE_WAIT and gets a RST later.

        When the limit is reached, raise it (about 256 bytes each), or close less often.
        """,
        """
        $ sysctl net.ipv4.tcp_max_tw_buckets
        $ nstat -az TcpExtTCPTimeWaitOverflow  # above 0: it was reached
        $ cat /proc/net/sockstat  # tw: how near
        """,
        see=("time-wait-table-filling", "last-ack-lost-without-time-wait", "sysctls"),
        cites=(
            "inet_twsk_alloc() in net/ipv4/inet_timewait_sock.c",
            "measured on Linux 6.18: limit 5, 8 closes, 5 rows, TCPTimeWaitOverflow +3",
        ),
    ),
    _myth(
        "data-is-lost-without-time-wait",
        "TIME_WAIT waits for late data; without it that data would be lost.",
        """
        No data is lost. TCP numbers its bytes and the FIN has the number after the last one. The
        active closer can only acknowledge the FIN, and enter TIME_WAIT, when it has every byte. If
        a segment before the FIN is late or lost, it stays in FIN_WAIT2, the peer sends the bytes
        again, and the application can read them, if it still has the socket.

        What arrives in TIME_WAIT is a second copy. It is thrown away and answered with an ACK. The
        danger is the opposite: that somebody would receive it, namely a new connection with the
        same addresses and ports.
        """,
        """
        $ ss -tan state time-wait  # Recv-Q is 0: there is no buffer to receive anything
        $ twdiag explain late-data-in-time-wait
        """,
        see=("late-data-in-time-wait", "old-segment", "why-time-wait"),
        cites=(
            "RFC 9293 section 3.10.7.4 (TIME-WAIT: segment text is ignored)",
            "measured on Linux 6.18: data to a TIME_WAIT is answered with ACK, timer back to 60 s",
        ),
    ),
    _myth(
        "final-ack-after-2msl",
        "The active closer sends the final ACK after waiting 2MSL.",
        """
        It sends it at once, at the beginning of TIME_WAIT. The passive closer is done a moment
        later; it does not wait for anybody's TIME_WAIT. Only a FIN that comes again makes the
        active closer send the ACK again.

        If it were sent after 60 s, every passive closer would be in LAST_ACK for a minute.
        """,
        """
        $ ss -tan state last-ack  # hardly any, while there are many TIME_WAITs
        $ twdiag explain four-way-close
        """,
        see=("why-the-last-ack", "four-way-close", "last-ack-lost"),
        cites=(
            "RFC 9293 section 3.10.7.4 (FIN bit: send an acknowledgment, enter TIME-WAIT)",
            "measured on Linux 6.18: resent FIN to a TIME_WAIT is answered with ACK at once",
        ),
    ),
    _myth(
        "time-wait-lasts-240-seconds",
        "TIME_WAIT lasts 240 seconds (or 120, or 30).",
        """
        On Linux 60 s, on every Linux. 240 s is 2MSL with the RFC's MSL of 2 minutes, 30 s is the
        MSL of Berkeley-derived systems, 120 s is conntrack's time_wait.
        """,
        """
        $ ss -tano state time-wait | grep -o 'timewait,[^,]*' | sort -u | tail  # none above 60
        $ sysctl net.netfilter.nf_conntrack_tcp_timeout_time_wait  # 120: another table
        """,
        see=("how-long-is-time-wait", "nat-and-conntrack"),
        cites=(
            "TCP_TIMEWAIT_LEN in include/net/tcp.h",
            "RFC 9293 section 3.4.2 (MSL)",
            "measured on Linux 6.18: 60.002 to 62.000 s",
        ),
    ),
    _myth(
        "only-clients-have-time-wait",
        "Only clients have TIME_WAIT (the client closes first).",
        """
        Whoever closes first has it. Many servers do: after "Connection: close", after a keep-alive
        timeout, when they are stopped. Pictures of the close show the client closing first, because
        they must show something.
        """,
        """
        $ ss -tanH state time-wait | awk '{print $3}' | sort | uniq -c | sort -n
        $ ss -ltn  # is one of those local ports listening? Then this server closes first
        """,
        see=("active-and-passive-closer", "server-closes-first", "connection-churn"),
        cites=(
            "RFC 9293 section 3.6",
            "measured on Linux 6.18: 3 server-first and 2 client-first closes, 3 and 2 rows",
        ),
    ),
    _myth(
        "many-time-waits-are-a-fault",
        "Thousands of TIME_WAITs mean that something is wrong.",
        """
        The number is only the closing rate times 60 s: 200 closes a second make 12,000. On a server
        that is some 3 MB and nothing else. Ask two questions instead: is it at the end that
        connects, and how near is its port budget? Is the table nearly full?
        """,
        """
        $ twdiag diagnose  # rate, budget and table, each with its limit beside it
        $ sysctl net.ipv4.tcp_max_tw_buckets
        """,
        see=("who-should-close", "ephemeral-ports", "time-wait-table-filling"),
        cites=(
            "measured on Linux 6.18: about 256 bytes each; 28,232 ports for each destination",
            "TCP_TIMEWAIT_LEN in include/net/tcp.h",
        ),
    ),
    _myth(
        "close-wait-times-out",
        "CLOSE_WAIT goes away by itself, or with the right sysctl.",
        """
        No timer and no sysctl ends it: the kernel waits for the application's close(). Only this
        ends it: close(), the end of the process, or a RST from the peer. With SO_KEEPALIVE a probe
        may draw such a RST once the peer has forgotten the connection; the connection is gone then,
        and the descriptor is still held.
        """,
        """
        $ ss -tanoi state close-wait  # no timer; lastrcv: ms since the last data
        $ sudo ss -tanp state close-wait  # the process to repair
        """,
        see=("CLOSE_WAIT", "close-wait-leak", "recv-q"),
        cites=(
            "RFC 9293 section 3.10.4 (CLOSE)",
            "measured on Linux 6.18: keepalive in CLOSE_WAIT ended by the peer's RST",
        ),
    ),
    _myth(
        "linger-zero-is-the-cure",
        "Use SO_LINGER 0: no TIME_WAIT, problem solved.",
        """
        It replaces the close by a RST. Data that is still under way is lost, the peer's application
        gets ECONNRESET, perhaps before it has read the answer, and old segments may reach the next
        connection on these ports. There is no TIME_WAIT because there was no close.
        """,
        """
        $ nstat -az TcpExtTCPAbortOnData TcpOutRsts  # somebody does it, if these grow
        $ twdiag explain abrupt-close
        """,
        see=("abrupt-close", "graceful-and-abrupt", "who-should-close"),
        cites=(
            "RFC 9293 section 3.10.5",
            "measured on Linux 6.18: SO_LINGER 0: RST, TCPAbortOnData +1, no TIME_WAIT",
        ),
    ),
    _myth(
        "reuseaddr-always-helps",
        "With SO_REUSEADDR bind() never fails after a restart.",
        """
        It helps if the old listener had it too; left-over sockets inherit it. If the old one had
        not, bind() fails all the same. And it never helps against a live listener, or against an
        outgoing connection that has the port as its local port.

        It is not dangerous on Linux: it does not let two programs listen on one port. That is
        SO_REUSEPORT, and both must ask for it.
        """,
        """
        $ ss -tanp sport = :8080  # who has the port: a listener, left-overs, a client?
        $ sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports
        """,
        see=("bind-fails-after-restart", "restart-blocked", "listener-in-ephemeral-range"),
        cites=(
            "inet_bind_conflict() in net/ipv4/inet_connection_sock.c",
            "measured on Linux 6.18: 9 combinations of options against 12 left-over states",
        ),
    ),
    _myth(
        "a-host-has-65535-connections",
        "A host can have at most 65,535 (or 28,232) connections.",
        """
        A connection is named by two addresses and two ports. 28,232 is the number of outgoing
        connections from one address to one address and port; to the next destination there are as
        many again. A server uses one port for all its clients: its limits are descriptors and
        memory.
        """,
        """
        $ ss -tanH state established | awk '{print $4}' | sort | uniq -c | sort -n
        $ twdiag diagnose  # used and budget for each destination
        """,
        see=("ephemeral-ports", "ports-running-out"),
        cites=(
            "net/ipv4/inet_hashtables.c, __inet_hash_connect()",
            "measured on Linux 6.18: range of 10 ports: 10 connections to each of 3 destinations",
        ),
    ),
    _myth(
        "four-segments-always",
        "A close always takes four segments.",
        """
        Often three: the passive closer's ACK and FIN travel together when its application closes at
        once. Two crossing FINs, four segments and two TIME_WAITs: the simultaneous close. And one
        RST ends everything. The states are what counts, not the number of segments.
        """,
        """
        $ sudo tcpdump -ni any 'tcp[tcpflags] & (tcp-fin|tcp-rst) != 0'  # see which it is
        """,
        see=("three-segment-close", "simultaneous-close", "why-four-segments"),
        cites=("RFC 9293 section 3.6", "RFC 9293 section 3.8.6.3"),
    ),
    _myth(
        "fin-carries-ack-because-of-half-close",
        "The first FIN carries an ACK because of half-close.",
        """
        Every segment after the first SYN carries an ACK, the FIN too. Half-close means that the end
        which sent FIN still receives, and it acknowledges what it receives in later segments.
        """,
        """
        $ sudo tcpdump -ni any -c 10 tcp  # [F.], [P.], [.]: the dot is ACK, in every one
        """,
        see=("why-the-first-fin-carries-ack", "half-close", "flags"),
        cites=("RFC 9293 section 3.1", "RFC 9293 section 3.10.7.4"),
    ),
    _myth(
        "fin-is-resent-for-ever",
        "Without TIME_WAIT the passive closer would resend its FIN for ever.",
        """
        A host that does not know the connection answers the first resent FIN with RST, and the
        passive closer is done, with an error. If nothing answers at all, an orphan gives up after 8
        retries, about 108 s. The harm is the error and the lost certainty, not endless traffic.
        """,
        """
        $ sysctl net.ipv4.tcp_orphan_retries  # 0 means 8
        $ ss -tano state last-ack  # timer:(on,...): time to the next retry, retries so far
        """,
        see=("last-ack-lost-without-time-wait", "LAST_ACK", "orphans"),
        cites=(
            "RFC 9293 section 3.10.7.1",
            "measured on Linux 6.18: LAST_ACK orphan gone after 108.0 s, 8 retries",
        ),
    ),
    _myth(
        "last-ack-answers-rst",
        "A SYN to a connection in LAST_ACK is answered with RST, and the new connection fails.",
        """
        That was RFC 793. Since RFC 5961 the answer is a challenge ACK; the client, which does not
        know that number, answers with RST, which ends the old connection; the SYN is sent again
        and succeeds. On Linux that took 12 ms. It fails only if something in between drops the
        challenge ACK or the RST.
        """,
        """
        $ nstat -az TcpExtTCPChallengeACK TcpExtTCPSYNChallenge  # how often this host asked back
        $ twdiag explain syn-meets-last-ack --step
        """,
        see=("syn-meets-last-ack", "LAST_ACK"),
        cites=(
            "RFC 5961 section 4",
            "RFC 9293 section 3.10.7.4",
            "measured on Linux 6.18: connect() over LAST_ACK succeeded after 12 ms, "
            "TCPSYNChallenge +1",
        ),
    ),
    _myth(
        "estab-counts-healthy-connections",
        '"estab" of ss -s counts the healthy connections.',
        """
        The kernel's CurrEstab counts ESTABLISHED and CLOSE_WAIT together. A leak of CLOSE_WAIT
        looks like many established connections there.
        """,
        """
        $ grep '^Tcp:' /proc/net/snmp  # the ninth number is CurrEstab
        $ ss -tanH state close-wait | wc -l  # how many of them are CLOSE_WAIT
        """,
        see=("CLOSE_WAIT", "counters", "close-wait-leak"),
        cites=(
            "tcp_set_state() in net/ipv4/tcp.c",
            "measured on Linux 6.18: CurrEstab stays 1 from ESTABLISHED to CLOSE_WAIT",
        ),
    ),
    _myth(
        "restart-clears-time-wait",
        "Restart the application to get rid of TIME_WAIT.",
        """
        TIME_WAITs belong to no process: they stay for their 60 s, whoever ends. A restart even
        makes more: a process that ends closes all its connections, first. What a restart does
        clear is CLOSE_WAIT.
        """,
        """
        $ ss -tane state time-wait  # no owner
        $ twdiag diagnose
        """,
        see=("TIME_WAIT", "bind-fails-after-restart", "close-wait-for-ever"),
        cites=(
            "inet_twsk_diag_fill() in net/ipv4/inet_diag.c",
            "measured on Linux 6.18: SIGKILL of an idle server makes it the active closer",
        ),
    ),
)

_INDEX: Final = Page(
    "myths",
    Kind.TOPIC,
    "Myths about TIME_WAIT and its kin",
    "What is often said, and wrong; each with a page.",
    (
        Text("Each has a page with the truth, its evidence, and how to see it on this host:"),
        *(Item(f"{page.name}: {page.summary}") for page in MYTHS),
    ),
    ("why-time-wait", "sysctls"),
    ("the pages named, each with its own evidence",),
)

PAGES: Final = (_INDEX, *MYTHS)
