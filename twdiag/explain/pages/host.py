"""The topics of a host: what the close costs it, what runs out, and what its settings do."""

from __future__ import annotations

from typing import Final

from twdiag.explain.pages.topic import topic

PAGES: Final = (
    topic(
        "who-should-close",
        "Why a server should not be the active closer, and when that is harmless",
        "Memory and a busy table at the server, ports at the client: know which one you save.",
        """
        The end that closes first keeps the TIME_WAIT. What that costs depends on which end it is.

        At a server: about 256 bytes for 60 s each. No port is used up (the server's port is the
        same in all of them), no descriptor, no process. Clients are not held up: a new SYN from the
        same port is let in (syn-meets-time-wait). Two things remain: a restart without SO_REUSEADDR
        fails with EADDRINUSE, and the table (net.ipv4.tcp_max_tw_buckets) can fill at some
        thousands of closes a second.

        At a client: one local port towards that destination for 60 s each. 28,232 ports by default:
        above 470 new connections a second to one address and port, connect() fails with
        EADDRNOTAVAIL. So for a busy client or proxy it is better that the server closes first:
        300 connections went through one client port in 0.02 s that way.

        "A server must never close first" is too strong, then. The rule is: let it not be the busy
        client side whose ports run out, set SO_REUSEADDR, and do not open and close a connection
        for every request. In this order:

        - Keep connections open and reuse them: keep-alive, connection pools. This removes the
          closes, and with them TIME_WAIT and the handshakes.

        - Settle who closes idle connections. Give the server the longer idle time, so that the
          clients close first: then no request meets a connection that is just closing, and their
          TIME_WAITs are few, because the connections live long.

        - Set SO_REUSEADDR on listeners.

        - Do nothing, if it is only that the number looks large.

        $ twdiag diagnose  # which listener closes first, which client churns, which ports run out
        """,
        see=("server-closes-first", "connection-churn", "ephemeral-ports", "restart-blocked"),
        cites=(
            "measured on Linux 6.18: 300 connections through one port in 0.02 s, server first",
            "measured on Linux 6.18: exactly 28,232 connections, then EADDRNOTAVAIL",
            "net/ipv4/inet_timewait_sock.c",
        ),
    ),
    topic(
        "ephemeral-ports",
        "Ephemeral ports and the budget",
        "28,232 ports for each source, destination and destination port, not for the whole host.",
        """
        connect() without bind() takes a free local port from net.ipv4.ip_local_port_range, by
        default 32768 to 60999: 28,232 ports. "Free" means: not in use towards the same destination
        address and port from the same source address. So the budget is per destination; another
        destination has a budget of its own. The 28,233rd connection fails with EADDRNOTAVAIL.

        TIME_WAIT and every other state count as used. Closed by the client at a steady rate, ports
        are held for 60 s: 28,232 / 60 = about 470 new connections a second, for one destination.
        When the server closes first, the client's ports are free at once.

        What makes the budget smaller: ip_local_reserved_ports, listeners inside the range, and
        sockets that call bind(address, 0) before connect(): these take their port for all
        destinations at once, unless IP_BIND_ADDRESS_NO_PORT is set.

        Before it ends it gets slow: connect() took 14 us while less than half of the ports to the
        destination were used, 1.7 ms above, and 4 ms to fail.

        What to do, best first:

        - reuse connections (pool, keep-alive): see the page of the program, such as nginx

        - more destinations (addresses or ports), or more source addresses with
          IP_BIND_ADDRESS_NO_PORT

        - a wider range, with the listening ports in it reserved

        - net.ipv4.tcp_tw_reuse=1, which needs TCP timestamps at both ends: reuse after 1 s

        $ sysctl net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports
        $ ss -tanH state time-wait | awk '{print $4}' | sort | uniq -c | sort -n  # per destination
        $ twdiag diagnose  # used, budget, and when it will be full
        """,
        see=("ports-running-out", "bound-ports-running-out", "sysctls", "connection-churn"),
        cites=(
            "net/ipv4/inet_hashtables.c, __inet_hash_connect()",
            "measured on Linux 6.18: 28,232 connections; 13-14 us, 1.7 ms, 4 ms",
            "ip(7): IP_BIND_ADDRESS_NO_PORT (Linux 4.2)",
        ),
    ),
    topic(
        "recv-q",
        "CLOSE_WAIT and what Recv-Q says",
        "0: drained, not closed; 1: only the FIN is unread; more: data is unread.",
        """
        Recv-Q counts what the application has not read; the FIN counts as one byte. So in
        CLOSE_WAIT it tells where the application stands:

        = 0: everything was read, the FIN too, and the socket is not closed. The usual leak. (Not a
        strict proof that recv() returned 0: the FIN can be taken with the last data.)

        = 1: all data was read, the end of file was not. The application has not looked since: an
        idle pooled connection, or a forgotten one. poll() and MSG_PEEK leave it at 1.

        = 25 or 32: a TLS alert (24 bytes in TLS 1.3, 31 in TLS 1.2) and the FIN: an idle TLS
        connection that the server ended.

        = more: Recv-Q - 1 bytes of data are unread: the reader is stuck, or not interested.

        Without an inode (and without an owner) the connection was never accepted: the application
        does not call accept(). The listener's Recv-Q counts such connections.

        Closing with Recv-Q 0 or 1 sends FIN, with more it sends RST.

        The age: a CLOSE_WAIT is at least as old as the last ACK it received and at most as old as
        the last data (ss -i: lastack, lastrcv).

        $ ss -tanpi state close-wait  # as root: owner, Recv-Q, lastrcv and lastack in ms
        """,
        see=(
            "CLOSE_WAIT",
            "close-wait-leak",
            "close-wait-unread",
            "close-wait-idle-pool",
            "close-wait-never-accepted",
        ),
        cites=(
            "tcp_diag_get_info() in net/ipv4/tcp_diag.c: rcv_nxt - copied_seq",
            "measured on Linux 6.18: Recv-Q 0, 1, 51, 101; FIN at 1, RST above 1",
            "measured on Linux 6.18: last_ack_recv 19,796 ms for a true age of 19,799 ms",
        ),
    ),
    topic(
        "fin-wait2-and-tcp-fin-timeout",
        "FIN_WAIT2 and what tcp_fin_timeout really does",
        "It limits FIN_WAIT2 after close(), and nothing else.",
        """
        net.ipv4.tcp_fin_timeout (60 s) is how long the kernel keeps a FIN_WAIT2 that no application
        holds any more. When it runs out the socket is forgotten, without TIME_WAIT, and a late FIN
        of the peer is answered with RST.

        It does not touch: TIME_WAIT (always 60 s), FIN_WAIT1, or a FIN_WAIT2 that an application
        holds after shutdown().

        Setting it above 60 does not do what it seems: the kernel splits the wait in two parts of
        T - 60 s. 61 gives 2 s in all; 65 gives 10 s; 120 gives 120 s.

        When the peer's FIN comes in time, a TIME_WAIT with a fresh 60 s follows: up to 120 s in
        all.

        TCP_LINGER2 sets the time for one socket.

        $ sysctl net.ipv4.tcp_fin_timeout
        $ ss -tano state fin-wait-2  # timer:(timewait,...) is what is left of it
        """,
        see=("FIN_WAIT2", "peer-never-closes", "tcp-fin-timeout-shortens-time-wait"),
        cites=(
            "RFC 1122 section 4.2.2.13",
            "measured on Linux 6.18: 5 -> 5.25 s, 61 -> 2.06 s, 65 -> 10.34 s",
            "measured on Linux 6.18: TIME_WAIT 60 s with tcp_fin_timeout 5 and 120",
            "__tcp_close() and tcp_rcv_state_process() in net/ipv4",
        ),
    ),
    topic(
        "orphans",
        "Orphans: sockets that no process holds any more",
        "After close() the kernel finishes the handshake alone, within limits.",
        """
        close() returns at once; the kernel sends the FIN and waits for the ACKs. Until then the
        socket is an orphan: no owner, no inode, in FIN_WAIT1, LAST_ACK or CLOSING.

        Nothing answers: 8 retries, about 108 s, and it is dropped (net.ipv4.tcp_orphan_retries=0
        means 8; with 1 it took 1.7 s). TCPAbortOnTimeout counts it.

        The peer's window is zero: the data before the FIN cannot go. ss shows timer:(persist,...).

        FIN_WAIT2 after close() and TIME_WAIT are no orphans in this sense: they are kept in the
        small structures that sockstat counts as "tw".

        net.ipv4.tcp_max_orphans limits them for the whole host; above it sockets are reset, and the
        kernel logs "too many orphaned sockets".

        $ ss -s  # orphaned
        $ cat /proc/net/sockstat  # "orphan" is for the whole host, "tw" for this namespace
        $ nstat -az TcpExtTCPAbortOnTimeout TcpExtTCPAbortOnMemory
        """,
        see=("FIN_WAIT1", "LAST_ACK", "fin-unanswered", "peer-vanished"),
        cites=(
            "measured on Linux 6.18: 108.0 s and 8 retries; 1.68 s with tcp_orphan_retries=1",
            "tcp_orphan_retries() in net/ipv4/tcp_timer.c",
        ),
    ),
    topic(
        "nat-and-conntrack",
        "TIME_WAIT, NAT and conntrack: another table with other times",
        "A router or firewall keeps its own states; ss does not show them.",
        """
        A NAT router or a stateful firewall follows each connection in a table of its own
        (conntrack). Its states have the same names as TCP's and mean other things: after the first
        FIN it says CLOSE_WAIT, whichever end sent it. Its times differ too: time_wait 120 s,
        close_wait 60 s, fin_wait 120 s, established 5 days.

        What goes wrong there, while ss looks fine:

        - The table is full: new connections time out, the kernel logs "nf_conntrack: table full".

        - The source ports of a NAT address are used up towards one destination: SYNs are dropped,
          insert_failed counts them, connect() times out. Entries in conntrack's TIME_WAIT give way
          to new ones; live ones do not.

        - A firewall forgot an idle connection and drops its segments: both ends look ESTABLISHED
          until one of them sends.

        And why tcp_tw_recycle was removed: it compared the timestamps of all connections of one
        address, and behind a NAT many hosts share an address: their SYNs were dropped at random.

        $ sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max
        $ cat /proc/net/stat/nf_conntrack  # insert_failed, drop: hexadecimal, a line for each CPU
        """,
        see=("conntrack-filling", "tcp-tw-recycle", "ephemeral-ports"),
        cites=(
            "measured on Linux 6.18: conntrack defaults; CLOSE_WAIT after the first FIN",
            "measured on Linux 6.18: SNAT pool of 10 ports, insert_failed +1 for each dropped SYN",
            "Linux 4.12, commit 4396e46187ca (tcp_tw_recycle removed)",
        ),
    ),
    topic(
        "sysctls",
        "Every sysctl that people touch: what it does and what it does not",
        "Most of them do not do what they are set for.",
        """
        = net.ipv4.tcp_fin_timeout (60): limits FIN_WAIT2 after close(). Does not shorten TIME_WAIT.
        Above 60 the wait is 2 x (T - 60) s: 61 gives 2 s.

        = net.ipv4.tcp_tw_reuse (2): an outgoing connect() may take a port in TIME_WAIT after 1 s,
        if both ends have TCP timestamps. 1: everywhere; 2: loopback only (default since 4.19); 0:
        never. Does nothing for a server's TIME_WAITs.

        = net.ipv4.tcp_tw_reuse_delay (1000 ms, Linux 6.14): how old a TIME_WAIT must be for that.

        = net.ipv4.tcp_tw_recycle: removed in Linux 4.12. It broke clients behind NAT.

        = net.ipv4.tcp_max_tw_buckets (by memory, often 131072 or 262144): above it sockets close
        without TIME_WAIT. Lowering it does not cure, it removes the protection. It bounds memory:
        about 256 bytes each.

        = net.ipv4.tcp_timestamps (1): needed for tcp_tw_reuse and PAWS. Leave it on.

        = net.ipv4.ip_local_port_range (32768 60999): the ports for outgoing connections, per
        destination. Does not limit what a server accepts. Widening it over listening ports without
        reserving them lets connect() take a service's port.

        = net.ipv4.ip_local_reserved_ports: ports that connect() and bind(0) leave alone.

        = net.ipv4.tcp_orphan_retries (0, which means 8): retries of a FIN after close().

        = net.ipv4.tcp_max_orphans: how many sockets may wait so; above it they are reset.

        = net.ipv4.tcp_rfc1337 (0): 1 ignores a RST that would end a TIME_WAIT.

        = net.ipv4.tcp_keepalive_time (7200 s): only for sockets with SO_KEEPALIVE. Finds vanished
        peers. It does not make an application close its CLOSE_WAIT.

        = net.ipv4.tcp_syn_retries (6), tcp_synack_retries (5): the open; 6 is about 130 s.

        = net.core.somaxconn (4096), net.ipv4.tcp_max_syn_backlog: the accept queue of a listener
        and its half-open connections. Nothing to do with closing.

        = for CLOSE_WAIT: there is none.

        They are per network namespace, except tcp_max_orphans: look inside the container.

        $ sysctl -a --pattern 'tcp_(fin|tw|max_tw|orphan|rfc1337|timestamps)'
        $ twdiag explain misleading-sysctl
        """,
        see=("misleading-sysctl", "myths", "ephemeral-ports", "fin-wait2-and-tcp-fin-timeout"),
        cites=(
            "Documentation/networking/ip-sysctl.rst",
            "measured on Linux 6.18: each of the statements on TIME_WAIT, FIN_WAIT2 and ports",
            "Linux 4.12 (tcp_tw_recycle), 4.19 (tcp_tw_reuse=2), 6.14 (tcp_tw_reuse_delay)",
        ),
    ),
    topic(
        "counters",
        "The counters that tell what happened",
        "States show now; counters show since boot. Take two samples.",
        """
        = TcpExtTW: TIME_WAITs (and FIN_WAIT2 after close) made: closes done by this side first.

        = TcpExtTWRecycled: TIME_WAITs reused by an outgoing connect().

        = TcpExtTWKilled: despite its name, closes with a time of at most 4 s, not kills.

        = TcpExtTCPTimeWaitOverflow: closed without TIME_WAIT because the table was full.

        = TcpExtTCPAbortOnClose: closed with unread data (RST). TCPAbortOnData: SO_LINGER 0 and kin.
        TCPAbortOnTimeout: keepalive or an orphan's retries ran out.

        = TcpExtListenOverflows, ListenDrops: the accept queue was full.

        = CurrEstab of /proc/net/snmp: ESTABLISHED and CLOSE_WAIT together.

        = TcpActiveOpens, TcpPassiveOpens: connections opened by this host, and to it.

        = sockstat tw, inuse: of this namespace; orphan, alloc, mem: of the whole host.

        $ nstat -az | grep -E 'TW|TCPAbort|TimeWait|Listen|Opens'
        $ cat /proc/net/sockstat
        """,
        see=("TIME_WAIT", "orphans", "graceful-and-abrupt"),
        cites=("measured on Linux 6.18: which counter moves at which event",),
    ),
)
