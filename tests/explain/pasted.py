"""Lines as logs have them, and which errors `explain` must find in each; () where it must not.

Their shape is that of the programs named beside them; hosts, times and requests are made up.
"""

from __future__ import annotations

from typing import Final

PASTED: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    # The kernel's log.
    (
        "[1209600.1] TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:8080. "
        "Sending cookies.",
        ("syn-flooding",),
    ),
    (
        "kernel: TCP: request_sock_TCPv6: Possible SYN flooding on port [::]:443. Dropping "
        "request.  Check SNMP counters.",
        ("syn-flooding",),
    ),
    (
        "May  4 03:12:09 web1 kernel: nf_conntrack: nf_conntrack: table full, dropping packet",
        ("conntrack-table-full",),
    ),
    ("kernel: TCP: time wait bucket table overflow", ("time-wait-table-full",)),
    ("kernel: TCP: out of memory -- consider tuning tcp_mem", ("tcp-memory",)),
    ("kernel: TCP: too many orphaned sockets", ("too-many-orphans",)),
    ("kernel: Out of socket memory", ("too-many-orphans", "tcp-memory")),
    ("kernel: neighbour: arp_cache: neighbor table overflow!", ("neighbour-table-full",)),
    ("kernel: ipv4: Neighbour table overflow.", ("neighbour-table-full",)),
    ("kernel: VFS: file-max limit 2470938 reached", ("enfile",)),
    ("    4711 times the listen queue of a socket overflowed", ("listen-queue-overflowed",)),
    ("    4711 SYNs to LISTEN sockets dropped", ("listen-queue-overflowed",)),
    (
        "kernel: Out of memory: Killed process 4711 (java) total-vm:8123456kB",
        ("no-memory-or-disk",),
    ),
    # nginx.
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 upstream prematurely closed connection while "
        'reading response header from upstream, client: 10.0.0.9, server: _, request: "GET / '
        'HTTP/1.1", upstream: "http://10.0.0.5:8080/", host: "shop"',
        ("bad-gateway",),
    ),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 no live upstreams while connecting to upstream, "
        'client: 10.0.0.9, server: _, request: "GET / HTTP/1.1", upstream: "http://app/"',
        ("no-live-upstream",),
    ),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 upstream timed out (110: Connection timed out) "
        "while reading response header from upstream, client: 10.0.0.9",
        ("gateway-timeout",),
    ),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 upstream timed out (110: Connection timed out) "
        "while connecting to upstream, client: 10.0.0.9",
        ("connect-timeout",),
    ),
    (
        "2026/05/04 03:12:09 [crit] 31#31: *77 connect() to 10.0.0.5:8080 failed (99: Cannot "
        "assign requested address) while connecting to upstream",
        ("eaddrnotavail-connect",),
    ),
    (
        "nginx: [emerg] bind() to 10.0.0.5:80 failed (99: Cannot assign requested address)",
        ("eaddrnotavail-bind",),
    ),
    ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", ("eaddrinuse",)),
    ("nginx: [emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)", ("eacces-bind",)),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 connect() failed (111: Connection refused) while "
        "connecting to upstream",
        ("econnrefused",),
    ),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 recv() failed (104: Connection reset by peer) "
        "while reading response header from upstream",
        ("econnreset",),
    ),
    (
        "2026/05/04 03:12:09 [error] 31#31: *77 connect() to unix:/run/php/php-fpm.sock failed "
        "(11: Resource temporarily unavailable) while connecting to upstream",
        ("unix-queue-full",),
    ),
    (
        "2026/05/04 03:12:09 [crit] 31#31: *77 connect() to unix:/run/php/php-fpm.sock failed "
        "(2: No such file or directory) while connecting to upstream",
        ("unix-socket-missing",),
    ),
    (
        "2026/05/04 03:12:09 [crit] 31#31: accept4() failed (24: Too many open files)",
        ("emfile",),
    ),
    (
        "2026/05/04 03:12:09 [alert] 31#31: 768 worker_connections are not enough",
        ("server-limit",),
    ),
    (
        "2026/05/04 03:12:09 [info] 31#31: *77 epoll_wait() reported that client prematurely "
        "closed connection, so upstream connection is closed too while sending request",
        ("client-gave-up",),
    ),
    (
        "2026/05/04 03:12:09 [info] 31#31: *77 client timed out (110: Connection timed out) while "
        "waiting for request",
        ("client-silent",),
    ),
    (
        '10.0.0.9 - - [04/May/2026:03:12:09 +0000] "GET /report HTTP/1.1" 499 0 "-" "curl/8.5"',
        ("client-gave-up",),
    ),
    (
        '10.0.0.9 - - [04/May/2026:03:12:09 +0000] "GET /report HTTP/1.1" 502 157 "-" "curl/8.5"',
        ("bad-gateway",),
    ),
    # HAProxy.
    (
        "haproxy[7]: 10.0.0.9:40112 [04/May/2026:03:12:09.120] www app/s1 0/0/1/-1/30001 504 222 "
        '- - sH-- 12/12/3/1/0 0/0 "GET /report HTTP/1.1"',
        ("gateway-timeout",),
    ),
    (
        "haproxy[7]: 10.0.0.9:40112 [04/May/2026:03:12:09.120] www app/s1 0/0/1/7/93 200 8112 - - "
        'SD-- 12/12/3/1/0 0/0 "GET /report HTTP/1.1"',
        ("econnreset",),
    ),
    (
        "haproxy[7]: 10.0.0.9:40112 [04/May/2026:03:12:09.120] www app/s1 0/0/1/7/93 200 8112 - - "
        'CD-- 12/12/3/1/0 0/0 "GET /report HTTP/1.1"',
        ("client-gave-up",),
    ),
    (
        "haproxy[7]: 10.0.0.9:40112 [04/May/2026:03:12:09.120] www app/s1 0/0/3002 -1/3002 0 SC "
        "12/12/3/1/3 0/0",
        ("econnrefused",),
    ),
    ("sH--", ("gateway-timeout",)),
    ("SH--", ("bad-gateway",)),
    ("cD--", ("client-silent",)),
    ("RC--", ("proxy-out-of-ports",)),
    (
        "haproxy[7]: 10.0.0.9:40112 [04/May/2026:03:12:09.120] www app/s1 0/0/1/7/93 200 8112 - - "
        '---- 12/12/3/1/0 0/0 "GET / HTTP/1.1"',
        (),
    ),
    ("haproxy[7]: backend app has no server available!", ("no-live-upstream",)),
    # Load balancers and meshes.
    (
        "http 2026-05-04T03:12:09.186641Z app/web/50dc6c495c0c9188 10.0.0.9:2817 10.0.0.5:80 "
        '0.000 0.001 -1 502 - 34 366 "GET http://shop:80/ HTTP/1.1" "curl/8.5" - -',
        ("bad-gateway",),
    ),
    (
        "http 2026-05-04T03:12:09.186641Z app/web/50dc6c495c0c9188 10.0.0.9:2817 10.0.0.5:80 "
        '0.000 -1 -1 504 - 34 366 "GET http://shop:80/ HTTP/1.1" "curl/8.5" - -',
        ("gateway-timeout",),
    ),
    (
        "upstream connect error or disconnect/reset before headers. reset reason: connection "
        "termination",
        ("hang-up",),
    ),
    (
        "upstream connect error or disconnect/reset before headers. retried and the latest reset "
        "reason: connection failure, transport failure reason: delayed connect error: 111",
        ("failed-to-connect",),
    ),
    ("no healthy upstream", ("no-live-upstream",)),
    # Java.
    (
        "com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure",
        ("database-connection-lost",),
    ),
    (
        "The last packet successfully received from the server was 3,600,089 milliseconds ago.",
        ("database-connection-lost",),
    ),
    (
        "Communications link failure The last packet sent successfully to the server was 0 "
        "milliseconds ago. The driver has not received any packets from the server.",
        ("failed-to-connect",),
    ),
    (
        "java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, "
        "request timed out after 30000ms.",
        ("pool-exhausted",),
    ),
    ("java.net.SocketException: Connection reset", ("econnreset",)),
    ("java.net.SocketException: Too many open files", ("emfile",)),
    (
        "java.net.BindException: Cannot assign requested address (Bind failed)",
        ("eaddrnotavail-bind",),
    ),
    (
        "java.net.ConnectException: Cannot assign requested address (connect failed)",
        ("eaddrnotavail-connect",),
    ),
    ("java.net.SocketTimeoutException: Read timed out", ("client-timeout",)),
    ("java.net.SocketTimeoutException: connect timed out", ("connect-timeout",)),
    ("java.net.ConnectException: Connection refused (Connection refused)", ("econnrefused",)),
    (
        "org.apache.http.NoHttpResponseException: shop:8080 failed to respond",
        ("hang-up",),
    ),
    (
        "org.apache.catalina.connector.ClientAbortException: Broken pipe",
        ("client-gave-up", "epipe"),
    ),
    ("java.lang.OutOfMemoryError: unable to create native thread", ("no-threads-or-processes",)),
    # Go.
    ('Post "http://shop/": http: server closed idle connection', ("hang-up",)),
    (
        "dial tcp 10.0.0.5:5432: connect: cannot assign requested address",
        ("eaddrnotavail-connect",),
    ),
    (
        "read tcp 10.0.0.9:40112->10.0.0.5:5432: read: connection reset by peer",
        ("econnreset",),
    ),
    ("read tcp 10.0.0.9:40112->10.0.0.5:5432: read: connection timed out", ("etimedout-read",)),
    ("write tcp 10.0.0.9:8080->10.0.0.5:40112: write: broken pipe", ("epipe",)),
    ("dial tcp 10.0.0.5:5432: i/o timeout", ("connect-timeout",)),
    ("read tcp 10.0.0.9:40112->10.0.0.5:5432: i/o timeout", ("client-timeout",)),
    (
        'Get "http://shop/": context deadline exceeded (Client.Timeout exceeded while awaiting '
        "headers)",
        ("client-timeout",),
    ),
    ("accept tcp [::]:8080: accept4: too many open files in system; retrying", ("enfile",)),
    ("accept tcp [::]:8080: use of closed network connection", ("closed-here",)),
    ("dial tcp: lookup shop on 10.0.0.2:53: no such host", ("name-not-resolved",)),
    (
        "x509: certificate signed by unknown authority",
        ("tls-refused",),
    ),
    ("listen tcp :8080: bind: address already in use", ("eaddrinuse",)),
    # Node.js, Python, Ruby, PHP.
    ("Error: socket hang up at connResetException (node:internal/errors:720:14)", ("hang-up",)),
    ("Error: read ECONNRESET at TCP.onStreamRead", ("econnreset",)),
    ("Error: connect ETIMEDOUT 10.0.0.5:443", ("connect-timeout",)),
    ("Error: connect ECONNREFUSED 127.0.0.1:6379", ("econnrefused",)),
    ("Error: listen EADDRINUSE: address already in use :::3000", ("eaddrinuse",)),
    ("Error: getaddrinfo ENOTFOUND shop", ("name-not-resolved",)),
    (
        "requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote "
        "end closed connection without response'))",
        ("hang-up",),
    ),
    (
        "requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, "
        "'Connection reset by peer'))",
        ("econnreset",),
    ),
    ("OSError: [Errno 98] Address already in use", ("eaddrinuse",)),
    (
        "OSError: [Errno 99] Cannot assign requested address",
        ("eaddrnotavail-connect", "eaddrnotavail-bind"),
    ),
    ("ValueError: filedescriptor out of range in select()", ("select-limit-reached",)),
    (
        "sqlalchemy.exc.TimeoutError: QueuePool limit of size 5 overflow 10 reached, connection "
        "timed out, timeout 30.00",
        ("pool-exhausted",),
    ),
    ("Errno::EPIPE: Broken pipe", ("epipe",)),
    ("Errno::ECONNRESET: Connection reset by peer", ("econnreset",)),
    ("Net::OpenTimeout: execution expired", ("connect-timeout",)),
    ("Net::ReadTimeout with #<TCPSocket:(closed)>", ("client-timeout",)),
    ("PHP Warning:  PDO::query(): MySQL server has gone away", ("database-connection-lost",)),
    (
        "[04-May-2026 03:12:09] WARNING: [pool www] server reached pm.max_children setting (5), "
        "consider raising it",
        ("server-limit",),
    ),
    ("tcp connect error: Connection refused (os error 111)", ("econnrefused",)),
    # Databases, queues, gRPC.
    (
        "psql: error: connection to server on socket failed: server closed the connection "
        "unexpectedly",
        ("database-connection-lost",),
    ),
    ("FATAL:  sorry, too many clients already", ("server-limit",)),
    ("LOG:  could not receive data from client: Connection reset by peer", ("econnreset",)),
    ('FATAL:  password authentication failed for user "app"', ("login-refused",)),
    ("ERROR 1040 (HY000): Too many connections", ("server-limit",)),
    (
        "ERROR 2013 (HY000): Lost connection to MySQL server during query",
        ("database-connection-lost",),
    ),
    (
        "ERROR 2003 (HY000): Can't connect to MySQL server on '10.0.0.5:3306' (111)",
        ("econnrefused",),
    ),
    ("# Error accepting a client connection: accept: Too many open files", ("emfile",)),
    (
        "redis.exceptions.ConnectionError: Connection closed by server.",
        ("database-connection-lost",),
    ),
    (
        "redis.exceptions.ConnectionError: Error 99 connecting to 10.0.0.5:6379. Cannot assign "
        "requested address.",
        ("eaddrnotavail-connect",),
    ),
    ("-ERR max number of clients reached", ("server-limit",)),
    (
        "WARN [Producer clientId=p1] Connection to node -1 (/10.0.0.5:9092) could not be "
        "established. Broker may not be available.",
        ("failed-to-connect",),
    ),
    (
        "rpc error: code = Unavailable desc = keepalive ping failed to receive ACK within timeout",
        ("keepalive-unanswered",),
    ),
    (
        "io.grpc.StatusRuntimeException: UNAVAILABLE: Keepalive failed. The connection is likely "
        "gone",
        ("keepalive-unanswered",),
    ),
    (
        "Received a GOAWAY with error code ENHANCE_YOUR_CALM and debug data equal to "
        '"too_many_pings"',
        ("too-many-pings",),
    ),
    (
        'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while '
        'dialing: dial tcp 10.0.0.5:50051: connect: connection refused"',
        ("econnrefused",),
    ),
    # Docker, systemd, ssh, curl.
    (
        "docker: Error response from daemon: driver failed programming external connectivity: "
        "failed to bind port 0.0.0.0:80/tcp: Error starting userland proxy: listen tcp4 "
        "0.0.0.0:80: bind: address already in use",
        ("eaddrinuse",),
    ),
    ("Bind for 0.0.0.0:8080 failed: port is already allocated", ("eaddrinuse",)),
    (
        "systemd[1]: app.socket: Failed to create listening socket ([::]:80): Address already in "
        "use",
        ("eaddrinuse",),
    ),
    ("kex_exchange_identification: read: Connection reset by peer", ("econnreset",)),
    (
        "kex_exchange_identification: Connection closed by remote host",
        ("connection-ended-early",),
    ),
    ("ssh: connect to host db1 port 22: No route to host", ("ehostunreach",)),
    ("ping: connect: Network is unreachable", ("enetunreach",)),
    ("ping: sendmsg: Operation not permitted", ("eperm",)),
    ("curl: (52) Empty reply from server", ("empty-reply",)),
    (
        "curl: (7) Failed to connect to 10.0.0.5 port 80 after 0 ms: Connection refused",
        ("econnrefused",),
    ),
    (
        "curl: (7) Failed to connect to 10.0.0.5 port 80 after 3 ms: Couldn't connect to server",
        ("failed-to-connect",),
    ),
    ("curl: (28) Connection timed out after 5001 milliseconds", ("connect-timeout",)),
    ("curl: (28) Operation timed out after 5001 milliseconds with 0 bytes", ("client-timeout",)),
    (
        "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to 10.0.0.5:443",
        ("tls-cut-off",),
    ),
    ("curl: (6) Could not resolve host: shop", ("name-not-resolved",)),
    (
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
        ("tls-refused",),
    ),
    ("bash: fork: retry: Resource temporarily unavailable", ("no-threads-or-processes",)),
    ("java 4711 app 915u sock 0,9 0t0 93594138 protocol: TCP", ("unidentified-socket",)),
    # What was wrong or missing when lines were tried that nobody had written words for.
    (
        "System.Net.Sockets.SocketException (10060): A connection attempt failed because the "
        "connected party did not properly respond after a period of time, or established "
        "connection failed because connected host has failed to respond.",
        ("connect-timeout",),
    ),
    ("Liveness probe failed: HTTP probe failed with statuscode: 503", ("service-unavailable",)),
    (
        "proxy: Error reading status line from remote server app1:8080 (110) Connection timed out",
        ("etimedout-read",),
    ),
    (
        'connection to server at "10.0.0.5", port 5432 failed: Connection timed out',
        ("connect-timeout",),
    ),
    (
        "closing AMQP connection <0.23.6> (10.0.0.9:54720 -> 10.0.0.5:5672): missed heartbeats "
        "from client, timeout: 8s",
        ("keepalive-unanswered",),
    ),
    ("JedisConnectionException: Unexpected end of stream.", ("connection-ended-early",)),
    ("JedisConnectionException: Could not get a resource from the pool", ("pool-exhausted",)),
    ("System.IO.IOException: The response ended prematurely", ("connection-ended-early",)),
    ("A socket operation was attempted to an unreachable network", ("enetunreach",)),
    (
        "Failed to open TCP connection to shop:443 (Cannot assign requested address - connect(2) "
        'for "shop" port 443)',
        ("eaddrnotavail-connect",),
    ),
    (
        "(99)Cannot assign requested address: AH00072: make_sock: could not bind to address "
        "10.0.0.5:80",
        ("eaddrnotavail-bind",),
    ),
    ("AxiosError: timeout of 5000ms exceeded, code: 'ECONNABORTED'", ("client-timeout",)),
    ('Get "http://shop/": EOF', ("hang-up",)),
    (
        "urllib3.connectionpool: Connection pool is full, discarding connection: shop. "
        "Connection pool size: 10",
        ("pool-too-small",),
    ),
    ("java.net.SocketException: Socket closed", ("closed-here",)),
    ("http: proxy error: context canceled", ("client-gave-up",)),
    (
        "WARNING C-0x1b: db/app@10.0.0.9:46198 pooler error: server conn crashed?",
        ("database-connection-lost",),
    ),
    ("ORA-12541: TNS:no listener", ("econnrefused",)),
    ("ORA-03113: end-of-file on communication channel", ("connection-ended-early",)),
    (
        "rsync: connection unexpectedly closed (0 bytes received so far)",
        ("connection-ended-early",),
    ),
    ("psycopg2: could not receive data from server: Connection timed out", ("etimedout-read",)),
    ("TWDIAG CRITICAL - java (pid 4) has 256 of 256 descriptors open | fd_ratio=100%", ("alert",)),
    ("** RECOVERY Service Alert: web1/TWDIAG is OK **", ()),
    ("TWDIAG UNKNOWN - the check took longer than 10 s", ("alert-unknown",)),
    ("WARNING tls_sbufio_recv: read failed: Connection timed out", ("etimedout-read",)),
    ('{"level":"error","msg":"EOF","request":{"proto":"HTTP/1.1"},"status":502}', ("bad-gateway",)),
    # What only looks like an error.
    ("conntrack.go:52] Setting nf_conntrack_max to 786432", ()),
    ("[conn81] end connection 127.0.0.1:49927 (2 connections now open)", ()),
    ("Install: libssh2-1:amd64 (1:2.3-1, automatic), str(110)", ()),
    ("EOFError: EOF when reading a line", ()),
    ("mqtt: client disconnected", ()),
    ("*77 client closed connection while waiting for request", ()),
    ("websocket: socket closed by remote", ()),
    ("rate limit exceeded, next try after a timeout of 5 s", ()),
    ("the kubelet failed to respond", ()),
    ("net_ratelimit: 241 callbacks suppressed", ()),
    ("worker 1 lifetime reached, it was running for 31 second(s)", ()),
    ("[pid: 52|app: 0|req: 4/9] generated 502 bytes in 504 msecs (HTTP/1.1 200) 5 headers", ()),
    ("Started Session 502 of user app.", ()),
    ("GET /items/504 took (99) ms", ()),
    ("SHIP CCNA SDHC", ()),
    ("INFO connection to 10.0.0.5 established in 502ms", ()),
    ("user 104 logged in from port 111", ()),
    ('10.0.0.9 - - [04/May/2026:03:12:09 +0000] "GET /502 HTTP/1.1" 200 504 "-" "curl"', ()),
)
