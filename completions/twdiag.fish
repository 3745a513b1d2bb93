# fish completion for twdiag, made from its command line; do not edit.

# Whether the words before the cursor are those of a command, and how many arguments it has.
function __twdiag_is --argument-names wanted most
    set -l command
    set -l count 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$command $word"
            case ' diagnose'
                set command diagnose
            case ' check'
                set command check
            case ' watch'
                set command watch
            case ' trace'
                set command trace
            case ' sockets'
                set command sockets
            case ' port'
                set command port
            case ' doctor'
                set command doctor
            case ' explain'
                set command explain
            case ' help'
                set command help
            case ' lab'
                set command lab
            case 'lab list'
                set command lab-list
            case 'lab run'
                set command lab-run
            case ' --port' ' --process' ' --netns' ' --interval' ' --format' ' --select' ' --ignore' ' --limit' ' --config' ' --source' ' --color'
                set skip 1
            case 'diagnose --port' 'diagnose --process' 'diagnose --netns' 'diagnose --interval' 'diagnose --format' 'diagnose --select' 'diagnose --ignore' 'diagnose --limit' 'diagnose --config' 'diagnose --source' 'diagnose --color'
                set skip 1
            case 'check -w' 'check --warning' 'check -c' 'check --critical' 'check --state' 'check --notify-on' 'check --again-after' 'check --format' 'check --output' 'check --port' 'check --process' 'check --select' 'check --ignore' 'check --limit' 'check --config' 'check --warn-on' 'check -t' 'check --timeout' 'check --source' 'check --print-config'
                set skip 1
            case 'watch --interval' 'watch --port' 'watch --process' 'watch --netns' 'watch --count' 'watch --for' 'watch --source' 'watch --select' 'watch --ignore' 'watch --limit' 'watch --config' 'watch --color'
                set skip 1
            case 'trace --port' 'trace --process' 'trace --netns' 'trace --for' 'trace --source'
                set skip 1
            case 'sockets --state' 'sockets --port' 'sockets --peer' 'sockets --process' 'sockets --rule' 'sockets --netns' 'sockets --sort' 'sockets --top' 'sockets --limit' 'sockets --config' 'sockets --source'
                set skip 1
            case 'port --netns'
                set skip 1
            case 'explain --color'
                set skip 1
            case 'lab-run --color'
                set skip 1
            case '* -*'
            case '*'
                set count (math $count + 1)
        end
    end
    test "$command" = "$wanted" -a $count -le $most
end

function __twdiag_words_rule
    printf '%s\t%s\n' \
        'ports-running-out' 'Outgoing connections to one destination are using up its local ports.' \
        'snat-ports-running-out' 'A NAT on this host is running out of source ports towards one destination.' \
        'conntrack-filling' 'The table of connection tracking is nearly full, or packets were dropped for want of a place.' \
        'accept-queue-full' 'A listener\'s accept queue is full, or live connections wait in it for long.' \
        'fd-limit-near' 'A process nears its limit of open descriptors.' \
        'sockets-nobody-sees' 'A process keeps connections open that no socket table shows any more.' \
        'close-wait-never-accepted' 'Connections wait in a listener\'s accept queue although their clients have given up.' \
        'bound-ports-running-out' 'An application that binds before it connects is using up the local ports of one address.' \
        'close-wait-leak' 'A process holds connections that the peer closed long ago and never closes them itself.' \
        'close-wait-unread' 'A process holds connections that the peer closed and does not read what they still carry.' \
        'idle-established-leak' 'Idle connections of a process pile up towards its limit of open descriptors.' \
        'time-wait-table-filling' 'The kernel\'s TIME_WAIT table is nearly full, or has overflowed.' \
        'data-unanswered' 'Open connections repeat their data to a peer that does not acknowledge it.' \
        'fin-unanswered' 'Sockets that this host closed get no acknowledgement of their FIN.' \
        'keep-alive-race' 'A server on this host closes idle connections while their clients still use them.' \
        'peer-never-closes' 'Connections that this host closed wait for a FIN that their peers do not send.' \
        'syn-unanswered' 'Connection attempts to one destination get no answer.' \
        'restart-blocked' 'Left-over sockets of a stopped server would make its next bind() fail.' \
        'close-wait-idle-pool' 'A client\'s pool keeps connections that the server closed while they were idle.' \
        'time-wait-rising' 'Connections close much faster now than a minute ago, and TIME_WAIT will rise.' \
        'connection-churn' 'This host opens many short connections to one destination and closes them first.' \
        'server-closes-first' 'A server on this host closes its connections first, so the TIME_WAITs stay here.' \
        'listener-in-ephemeral-range' 'A server\'s fixed port lies where the kernel takes ports for outgoing connections.' \
        'misleading-sysctl' 'A sysctl is set to something that does not do what it is usually set for.'
end

function __twdiag_words_state
    printf '%s\t%s\n' \
        'ESTABLISHED' 'both ends may send' \
        'SYN_SENT' 'a SYN went out and nothing came back yet' \
        'SYN_RECV' 'a SYN was answered with SYN+ACK; the last ACK of the open is awaited' \
        'FIN_WAIT1' 'this end closed first; its FIN is not acknowledged yet' \
        'FIN_WAIT2' 'this end closed first and the FIN is acknowledged; the peer has not closed yet' \
        'TIME_WAIT' 'this end closed first and the close is complete; the ports are held so that a lost last ACK can be repeated and old segments cannot reach a new connection' \
        'CLOSE_WAIT' 'the peer closed first; the local application has not closed yet' \
        'LAST_ACK' 'the peer closed first, this end closed too; its FIN is not acknowledged yet' \
        'LISTEN' 'a server waits for connections' \
        'CLOSING' 'both ends closed at the same moment; this end\'s FIN is not acknowledged yet' \
        'BOUND' 'bound, neither listening nor connected'
end

function __twdiag_words_limit
    printf '%s\t%s\n' \
        'ports-notice=' 'ports used to one destination; connect() slows down from here on' \
        'ports-warning=' 'ports used to one destination that cannot be reused' \
        'ports-critical=' 'ports used to one destination that cannot be reused' \
        'snat-ports-warning=' 'ports of one SNAT to one destination that are in use' \
        'snat-ports-critical=' 'ports of one SNAT to one destination that are in use' \
        'conntrack-warning=' 'conntrack entries as a share of nf_conntrack_max' \
        'conntrack-critical=' 'conntrack entries as a share of nf_conntrack_max' \
        'accept-wait-warning=' 'how long a live connection waits for accept() in a full queue' \
        'accept-wait-critical=' 'the same; a warning where the queue is not full' \
        'close-wait-notice=' 'old CLOSE_WAIT sockets of one process' \
        'fds-warning=' 'open descriptors of a process as a share of its limit' \
        'fds-critical=' 'open descriptors of a process as a share of its limit' \
        'fds-warning-seconds=' 'time until the descriptor limit is reached, two samples' \
        'fds-critical-seconds=' 'time until the descriptor limit is reached, two samples' \
        'sockets-nobody-sees=' 'sockets of one process that no table shows' \
        'sockets-nobody-sees-share=' 'such sockets as a share of the descriptor limit' \
        'sockets-nobody-sees-many=' 'such sockets of one process, and half of its descriptors, however far its limit is' \
        'close-wait-age=' 'a CLOSE_WAIT younger than this is nobody\'s leak' \
        'bound-ports-notice=' 'distinct local ports in use on one source address' \
        'bound-ports-warning=' 'distinct local ports in use on one source address' \
        'close-wait-warning=' 'CLOSE_WAIT sockets of one process older than the next limit' \
        'close-wait-warning-age=' 'age from which close-wait-warning counts' \
        'close-wait-fds-warning=' 'CLOSE_WAIT sockets as a share of the descriptor limit' \
        'close-wait-fds-critical=' 'CLOSE_WAIT sockets as a share of the descriptor limit' \
        'close-wait-leak-seconds=' 'time until a pool\'s leak reaches the descriptor limit' \
        'idle-share=' 'idle connections without keepalive as a share of the limit' \
        'idle-age=' 'how long the oldest have been idle, where one look is enough' \
        'idle-grown-age=' 'the same, where two samples show that their number grows' \
        'idle-leak-seconds=' 'time until the limit is reached that is a warning' \
        'time-wait-table-warning=' 'TIME_WAIT as a share of tcp_max_tw_buckets' \
        'time-wait-table-critical=' 'TIME_WAIT as a share of tcp_max_tw_buckets' \
        'data-unanswered=' 'connections to one peer whose data is not acknowledged' \
        'data-unanswered-service=' 'such connections of one local port, all clients together' \
        'data-unanswered-retries=' 'retransmissions before data is unanswered' \
        'data-unanswered-share=' 'such connections as a share of all of the client or the service' \
        'fin-unanswered=' 'sockets to one peer whose FIN is not acknowledged' \
        'fin-unanswered-service=' 'such sockets of one local port, all clients together' \
        'fin-unanswered-retries=' 'retransmissions before a FIN is unanswered' \
        'orphans-warning=' 'orphans as a share of tcp_max_orphans' \
        'orphans-critical=' 'orphans as a share of tcp_max_orphans' \
        'keep-alive-race=' 'idle connections that a server closed after the same time' \
        'keep-alive-race-reuse=' 'share of the idle timeout after which their clients sent again' \
        'fin-wait2-age=' 'a FIN_WAIT2 younger than this waits normally' \
        'fin-wait2-held-notice=' 'old half-closed sockets that a process holds' \
        'fin-wait2-held-warning=' 'old half-closed sockets that a process holds' \
        'fin-wait2-orphans-notice=' 'old orphans that wait for the FIN of one service' \
        'syn-unanswered=' 'retransmitted SYNs to one destination' \
        'syn-unanswered-retries=' 'retransmissions before fewer SYNs are told too' \
        'syn-unanswered-share=' 'such SYNs as a share of all connections of this host\'s clients' \
        'syn-unanswered-destinations=' 'destinations that do not answer SYNs' \
        'restart-blocked=' 'left-over sockets of a service without a listener' \
        'time-wait-rising-factor=' 'closing rate of the last 10 s against that of the 50 s before' \
        'time-wait-rising-table=' 'where the rate settles, as a share of the table' \
        'connection-churn=' 'connections to one destination closed here in a minute' \
        'server-closes-first=' 'sockets of one listener that this host closed first' \
        'server-closes-first-table=' 'share of tcp_max_tw_buckets that one listener fills'
end

function __twdiag_words_metric
    printf '%s\t%s\n' \
        'time_wait=' 'sockets in TIME_WAIT' \
        'close_wait=' 'sockets in CLOSE_WAIT' \
        'established=' 'sockets in ESTABLISHED' \
        'ports_used_ratio=' 'local ports in use towards the busiest destination' \
        'ports_taken_ratio=' 'local ports to one destination that connect() cannot get (without those that tcp_tw_reuse frees)' \
        'time_wait_table_ratio=' 'how full the TIME_WAIT table is (tcp_max_tw_buckets)' \
        'closes_per_second=' 'closes into TIME_WAIT per second, last minute' \
        'recent_closes_per_second=' 'closes into TIME_WAIT per second, right now' \
        'close_wait_age=' 'age of the oldest CLOSE_WAIT, at least' \
        'fd_ratio=' 'how near the fullest process is to its descriptor limit (of those with 48 or more open)' \
        'accept_queue_ratio=' 'how full the fullest accept queue is' \
        'orphans_ratio=' 'orphaned sockets as a share of tcp_max_orphans, host-wide' \
        'conntrack_ratio=' 'how full the conntrack table is (nf_conntrack_max)' \
        'snat_ports_ratio=' 'source ports in use by open connections, of the fullest SNAT to one destination' \
        'fin_wait1=' 'sockets in FIN_WAIT1' \
        'fin_wait2=' 'sockets in FIN_WAIT2' \
        'closing=' 'sockets in CLOSING' \
        'last_ack=' 'sockets in LAST_ACK' \
        'syn_sent=' 'sockets in SYN_SENT' \
        'syn_recv=' 'sockets in SYN_RECV' \
        'listen=' 'sockets in LISTEN' \
        'total=' 'sockets in any state' \
        'time_wait_overflows_total=' 'since boot: sockets closed without TIME_WAIT, its table being full (TcpExt.TCPTimeWaitOverflow)' \
        'listen_overflows_total=' 'since boot: connections dropped at a full accept queue (TcpExt.ListenOverflows)' \
        'conntrack_drops_total=' 'since boot: packets dropped for want of a conntrack entry or a NAT port (nf_conntrack.drop)' \
        'new_close_wait=' 'sockets in CLOSE_WAIT that were not there at the last run' \
        'new_time_wait_overflows=' 'since the last run: sockets closed without TIME_WAIT, its table being full' \
        'new_listen_overflows=' 'since the last run: connections dropped at a full accept queue' \
        'new_conntrack_drops=' 'since the last run: packets dropped for want of a conntrack entry or a NAT port'
end

function __twdiag_words_page
    printf '%s\t%s\n' \
        'LISTEN' 'a server waits for connections' \
        'SYN_SENT' 'a SYN went out and nothing came back yet' \
        'SYN_RECV' 'a SYN was answered with SYN+ACK; the last ACK of the open is awaited' \
        'ESTABLISHED' 'both ends may send' \
        'FIN_WAIT1' 'this end closed first; its FIN is not acknowledged yet' \
        'FIN_WAIT2' 'this end closed first and the FIN is acknowledged; the peer has not closed yet' \
        'CLOSING' 'both ends closed at the same moment; this end\'s FIN is not acknowledged yet' \
        'TIME_WAIT' 'this end closed first and the close is complete; the ports are held so that a lost last ACK can be repeated and old segments cannot reach a new connection' \
        'CLOSE_WAIT' 'the peer closed first; the local application has not closed yet' \
        'LAST_ACK' 'the peer closed first, this end closed too; its FIN is not acknowledged yet' \
        'CLOSED' 'no connection' \
        'error-messages' '"Connection reset by peer", "Address already in use" and their kin: what happened, and what to read.' \
        'find-the-line' 'From a CLOSE_WAIT to the process, its descriptor, its threads, and the code, per runtime.' \
        'forgotten-or-stuck' 'A CLOSE_WAIT is forgotten by its program, or the thread that should close it is busy elsewhere.' \
        'recv-q' '0: drained, not closed; 1: only the FIN is unread; more: data is unread.' \
        'dead-peer' 'Idle: never. With data under way: 15 minutes or more. Unless somebody set a timer.' \
        'idle-timeouts' 'The server must wait longer than its clients: the idle times of both, as shipped.' \
        'old-process-after-reload' 'A reload hands the listener to new processes; an old one lives until its last connection ends.' \
        'ephemeral-ports' '28,232 ports for each source, destination and destination port, not for the whole host.' \
        'nat-and-conntrack' 'A router or firewall keeps its own states and ports; ss does not show them.' \
        'counters' 'States show now; counters show since boot. Take two samples.' \
        'states' 'The state machine in one drawing, and the ways that are not drawn.' \
        'active-and-passive-closer' 'Whoever closes first has the FIN_WAITs and TIME_WAIT, whether client or server.' \
        'close-wait-and-time-wait' 'One is an application that has not closed, the other a close that is complete.' \
        'why-four-segments' 'Two streams, each ended by its sender and confirmed by its receiver.' \
        'why-the-last-ack' 'The passive closer must learn that its FIN, and so all its data, arrived.' \
        'why-the-first-fin-carries-ack' 'Every segment after the first SYN does; it is not a sign of half-close.' \
        'why-time-wait' 'To repeat the last ACK, and to let old segments die before the ports are used again.' \
        'how-long-is-time-wait' 'On Linux 60 s, compiled in; the other numbers are MSLs and other systems.' \
        'half-close' 'shutdown(SHUT_WR) ends one stream and keeps the other open.' \
        'graceful-and-abrupt' 'FIN: all data arrives and both ends agree. RST: it is over, now, and data may be lost.' \
        'flags' 'Eight control bits, and a ninth with a history.' \
        'who-should-close' 'Memory and a busy table at the server, ports at the client: know which one you save.' \
        'keep-alive' 'One probes a silent peer, the other reuses a connection. They share only the name.' \
        'shutdown' 'SHUT_WR sends the FIN, SHUT_RD sends nothing, close() does what is left when nobody holds it.' \
        'so-linger' 'Off is right. 0 aborts with a RST. More makes close() wait; it does not change TIME_WAIT.' \
        'reuse-options' 'One lets a server restart over leftovers, the other lets several sockets share a port.' \
        'descriptor-copies' 'A child process, or dup(), still holds the socket: close() only lets go of one name for it.' \
        'fin-wait2-and-tcp-fin-timeout' 'It limits FIN_WAIT2 after close(), and nothing else.' \
        'orphans' 'After close() the kernel finishes the handshake alone, within limits.' \
        'sysctls' 'Most of them do not do what they are set for.' \
        'myths' 'What is often said, and wrong; each with a page.' \
        'three-way-open' 'Both ends agree on where their sequence numbers begin, in three segments.' \
        'four-way-close' 'Each direction is closed and acknowledged by itself: FIN, ACK, FIN, ACK.' \
        'half-close-with-data' 'One end has said everything and still listens to the other.' \
        'three-segment-close' 'A passive closer with nothing more to say puts its ACK and its FIN into one segment.' \
        'simultaneous-close' 'Both ends close before either hears of it: both are active closers.' \
        'last-ack-lost' 'The first reason for TIME_WAIT: somebody must be there to acknowledge a resent FIN.' \
        'last-ack-lost-without-time-wait' 'Without TIME_WAIT the resent FIN is answered with RST: the close ends with an error.' \
        'old-segment' 'The second reason for TIME_WAIT: old segments must die before the ports are used again.' \
        'late-data-in-time-wait' 'It is a copy of bytes that were received long ago: thrown away, and nothing is lost.' \
        'old-segment-without-time-wait' 'The new connection takes an old segment for its own: its data is corrupted, silently.' \
        'fin-lost' 'A FIN that nothing acknowledges is sent again: the sender waits in FIN_WAIT1.' \
        'peer-vanished' 'No ACK and no RST: the FIN is resent until the retries are used up.' \
        'half-open' 'One end still has the connection. It learns the truth when it sends, not before.' \
        'close-wait-for-ever' 'One application does not close: its socket stays forever, the peer\'s for 60 s.' \
        'syn-meets-last-ack' 'A challenge ACK, a RST from the client, and the second SYN succeeds.' \
        'syn-meets-time-wait' 'A listener gives up a TIME_WAIT for a SYN that is provably new.' \
        'old-syn-meets-time-wait' 'An ACK, a RST from the client, and TIME_WAIT is gone; unless tcp_rfc1337 forbids it.' \
        'bind-fails-after-restart' 'Left-over sockets hold the service\'s port: EADDRINUSE, unless SO_REUSEADDR was set.' \
        'abrupt-close' 'RST ends both ends at once: no handshake, no TIME_WAIT, and data may be lost.' \
        'close-with-unread-data' 'The commonest RST that nobody asked for: the application did not read all it was sent.' \
        'request-meets-close' 'The FIN and the next request cross: the client gets an error for a request nobody read.' \
        'tcp-fin-timeout-shortens-time-wait' 'Lower tcp_fin_timeout to shorten TIME_WAIT.' \
        'tcp-tw-recycle' 'Enable tcp_tw_recycle.' \
        'tcp-tw-reuse-on-a-server' 'Set tcp_tw_reuse=1 on the server to get rid of its TIME_WAITs.' \
        'time-wait-uses-descriptors' 'TIME_WAIT sockets use up file descriptors and CPU.' \
        'lower-tcp-max-tw-buckets' 'Lower tcp_max_tw_buckets to reduce TIME_WAIT.' \
        'data-is-lost-without-time-wait' 'TIME_WAIT waits for late data; without it that data would be lost.' \
        'only-old-data-harms' 'TIME_WAIT keeps old data out of a new connection; an old FIN or ACK would not matter.' \
        'time-wait-gives-the-server-time' 'TIME_WAIT gives the server time to receive packets that are late.' \
        'final-ack-after-2msl' 'The active closer sends the final ACK after waiting 2MSL.' \
        'last-ack-means-ready' 'The last ACK says that the client is ready to end, too.' \
        'closed-after-the-last-ack' 'After its last ACK the client goes to CLOSED.' \
        'fin-wait-begins-with-the-ack' 'The active closer enters FIN_WAIT when the ACK of its FIN arrives.' \
        'time-wait-lasts-240-seconds' 'TIME_WAIT lasts 240 seconds (or 120, or 30).' \
        'only-clients-have-time-wait' 'Only clients have TIME_WAIT (the client closes first).' \
        'many-time-waits-are-a-fault' 'Thousands of TIME_WAITs mean that something is wrong.' \
        'close-wait-times-out' 'CLOSE_WAIT goes away by itself, or with the right sysctl.' \
        'linger-zero-is-the-cure' 'Use SO_LINGER 0: no TIME_WAIT, problem solved.' \
        'reuseaddr-always-helps' 'With SO_REUSEADDR bind() never fails after a restart.' \
        'a-host-has-65535-connections' 'A host can have at most 65,535 (or 28,232) connections.' \
        'four-segments-always' 'A close always takes four segments.' \
        'fin-carries-ack-because-of-half-close' 'The first FIN carries an ACK because of half-close.' \
        'fin-is-resent-for-ever' 'Without TIME_WAIT the passive closer would resend its FIN forever.' \
        'last-ack-answers-rst' 'A SYN to a connection in LAST_ACK is answered with RST, and the new connection fails.' \
        'unreachable-means-rst' 'When the remote host cannot be reached, the connection ends with a RST.' \
        'estab-counts-healthy-connections' '"estab" of ss -s counts the healthy connections.' \
        'restart-clears-time-wait' 'Restart the application to get rid of TIME_WAIT.' \
        'ports-running-out' 'Outgoing connections to one destination are using up its local ports.' \
        'snat-ports-running-out' 'A NAT on this host is running out of source ports towards one destination.' \
        'conntrack-filling' 'The table of connection tracking is nearly full, or packets were dropped for want of a place.' \
        'accept-queue-full' 'A listener\'s accept queue is full, or live connections wait in it for long.' \
        'fd-limit-near' 'A process nears its limit of open descriptors.' \
        'sockets-nobody-sees' 'A process keeps connections open that no socket table shows any more.' \
        'close-wait-never-accepted' 'Connections wait in a listener\'s accept queue although their clients have given up.' \
        'bound-ports-running-out' 'An application that binds before it connects is using up the local ports of one address.' \
        'close-wait-leak' 'A process holds connections that the peer closed long ago and never closes them itself.' \
        'close-wait-unread' 'A process holds connections that the peer closed and does not read what they still carry.' \
        'idle-established-leak' 'Idle connections of a process pile up towards its limit of open descriptors.' \
        'time-wait-table-filling' 'The kernel\'s TIME_WAIT table is nearly full, or has overflowed.' \
        'data-unanswered' 'Open connections repeat their data to a peer that does not acknowledge it.' \
        'fin-unanswered' 'Sockets that this host closed get no acknowledgement of their FIN.' \
        'keep-alive-race' 'A server on this host closes idle connections while their clients still use them.' \
        'peer-never-closes' 'Connections that this host closed wait for a FIN that their peers do not send.' \
        'syn-unanswered' 'Connection attempts to one destination get no answer.' \
        'restart-blocked' 'Left-over sockets of a stopped server would make its next bind() fail.' \
        'close-wait-idle-pool' 'A client\'s pool keeps connections that the server closed while they were idle.' \
        'time-wait-rising' 'Connections close much faster now than a minute ago, and TIME_WAIT will rise.' \
        'connection-churn' 'This host opens many short connections to one destination and closes them first.' \
        'server-closes-first' 'A server on this host closes its connections first, so the TIME_WAITs stay here.' \
        'listener-in-ephemeral-range' 'A server\'s fixed port lies where the kernel takes ports for outgoing connections.' \
        'misleading-sysctl' 'A sysctl is set to something that does not do what it is usually set for.' \
        'aiohttp' 'what is known of aiohttp: who closes, and which setting decides' \
        'apache-httpclient' 'what is known of Apache HttpClient: who closes, and which setting decides' \
        'apache' 'what is known of Apache HTTP Server: who closes, and which setting decides' \
        'aws-alb' 'what is known of AWS Application Load Balancer: who closes, and which setting decides' \
        'aws-nlb' 'what is known of AWS Network Load Balancer: who closes, and which setting decides' \
        'azure-lb' 'what is known of Azure Load Balancer: who closes, and which setting decides' \
        'caddy' 'what is known of Caddy: who closes, and which setting decides' \
        'cowboy' 'what is known of Cowboy (Erlang, Elixir): who closes, and which setting decides' \
        'dotnet-httpclient' 'what is known of .NET HttpClient: who closes, and which setting decides' \
        'envoy' 'what is known of Envoy: who closes, and which setting decides' \
        'gcp-lb' 'what is known of Google Cloud Application Load Balancer: who closes, and which setting decides' \
        'go' 'what is known of Go net/http: who closes, and which setting decides' \
        'grpc' 'what is known of gRPC (Go): who closes, and which setting decides' \
        'gunicorn' 'what is known of Gunicorn: who closes, and which setting decides' \
        'haproxy' 'what is known of HAProxy: who closes, and which setting decides' \
        'hikaricp' 'what is known of HikariCP: who closes, and which setting decides' \
        'httpx' 'what is known of HTTPX: who closes, and which setting decides' \
        'hypercorn' 'what is known of Hypercorn: who closes, and which setting decides' \
        'jdk-httpclient' 'what is known of java.net.http.HttpClient: who closes, and which setting decides' \
        'jetty' 'what is known of Eclipse Jetty: who closes, and which setting decides' \
        'kestrel' 'what is known of Kestrel (ASP.NET Core): who closes, and which setting decides' \
        'memcached' 'what is known of memcached: who closes, and which setting decides' \
        'mysql' 'what is known of MySQL and MariaDB: who closes, and which setting decides' \
        'nginx' 'what is known of nginx: who closes, and which setting decides' \
        'nodejs' 'what is known of Node.js (a runtime): who closes, and which setting decides' \
        'okhttp' 'what is known of OkHttp: who closes, and which setting decides' \
        'pgbouncer' 'what is known of PgBouncer: who closes, and which setting decides' \
        'php-fpm' 'what is known of PHP-FPM: who closes, and which setting decides' \
        'postgresql' 'what is known of PostgreSQL: who closes, and which setting decides' \
        'psycopg-pool' 'what is known of psycopg_pool: who closes, and which setting decides' \
        'puma' 'what is known of Puma: who closes, and which setting decides' \
        'redis-py' 'what is known of redis-py: who closes, and which setting decides' \
        'redis' 'what is known of Redis: who closes, and which setting decides' \
        'requests' 'what is known of requests and urllib3: who closes, and which setting decides' \
        'reqwest' 'what is known of reqwest and hyper: who closes, and which setting decides' \
        'sqlalchemy' 'what is known of SQLAlchemy: who closes, and which setting decides' \
        'squid' 'what is known of Squid: who closes, and which setting decides' \
        'tinyproxy' 'what is known of Tinyproxy: who closes, and which setting decides' \
        'tomcat' 'what is known of Java (a runtime): who closes, and which setting decides' \
        'traefik' 'what is known of Traefik: who closes, and which setting decides' \
        'undertow' 'what is known of Undertow: who closes, and which setting decides' \
        'uvicorn' 'what is known of Uvicorn: who closes, and which setting decides' \
        'uwsgi' 'what is known of uWSGI: who closes, and which setting decides'
end

function __twdiag_words_scenario
    printf '%s\t%s\n' \
        'idle' 'two listeners and no client' \
        'busy-keep-alive' '50 kept connections, and 10 that the clients closed themselves' \
        'keep-alive-race' 'a server closes idle connections after 0.6 s, and its client still uses them' \
        'keep-alive-in-order' 'a client gives idle connections up after 0.3 s, before the server closes them' \
        'simultaneous-close' 'both ends of 10 connections close at once: 20 TIME_WAITs' \
        'linger-zero' '30 connections ended by RST: no TIME_WAIT, and no safe close either' \
        'server-closes-first' 'a server without keep-alive closes 23 connections before its clients do' \
        'ipv6' 'a server closes 23 IPv6 connections before its clients do' \
        'dual-stack' 'a server on [::]:8080 closes 23 IPv4 connections first' \
        'reuse-port' '3 processes listen on one port; they close 24 connections first' \
        'one-address' '23 closes of a server on 127.0.0.2, and a client\'s TIME_WAIT at 127.0.0.1' \
        'orphan-fin-wait2' 'a server closed 25 connections first; the clients never close theirs' \
        'client-closes-first' 'a client without a connection pool leaves 600 TIME_WAITs to one destination' \
        'ports-running-out' '90 of the 100 local ports to one destination are in TIME_WAIT' \
        'ports-reusable' '90 of 100 local ports are in TIME_WAIT, and tcp_tw_reuse may reuse them' \
        'bound-ports-running-out' '80 of 100 local ports are taken by sockets bound before they connect' \
        'time-wait-rising' 'a server has begun to close 250 connections a second' \
        'closing-schedule' 'a server closes 3, 7, 2, 11, 0, 13, 5, 17, 1 and 19 connections a second' \
        'bucket-overflow' '30 closes where net.ipv4.tcp_max_tw_buckets allows 20 TIME_WAITs' \
        'close-wait-young' '5 sockets in CLOSE_WAIT for 3 seconds: perhaps the program is at work' \
        'close-wait-leak' 'a program keeps 5 sockets whose clients closed 12 seconds ago' \
        'many-leaks' '8 workers of one program leak 5 sockets each, a stopped one keeps 12' \
        'hostile-name' 'a leaking program with control characters and markup in its name' \
        'fd-limit' '52 leaked sockets of a program that may open 64 files' \
        'fd-limit-established' '110 live connections of a server that may open 128 files' \
        'sockets-nobody-sees' '110 reset connections that fill a server\'s descriptors and no socket table' \
        'sockets-elsewhere' 'a server holds 110 live connections of another network namespace' \
        'idle-established-leak' '10 connections a second come to a server, and nobody uses or closes them' \
        'idle-timeout' '20 connections a second come to a server that closes idle ones after 3 s' \
        'idle-database' '500 connections to a database are idle, and it may open 900 files' \
        'busy-pool' 'a pool uses its 100 connections in turn, each one every 2 s' \
        'websocket-server' '1,000 long connections of a server that may open 1,500 files, each with a ping' \
        'close-wait-unread' 'a stuck program leaves 100 bytes unread on 5 closed connections' \
        'close-wait-never-accepted' '6 clients gave up in the accept queue of a server that is frozen' \
        'accept-queue-full' '6 clients wait for 6 s in the full accept queue of a server that is frozen' \
        'accept-queue-busy' '40 clients have just come to a server whose accept queue holds 65' \
        'close-wait-idle-pool' 'a server closed 5 idle connections that a client keeps in its pool' \
        'half-close' 'a client half-closed 5 connections 12 seconds ago; the server does not close' \
        'data-unanswered' '6 pooled connections repeat a request to a peer that drops it' \
        'slow-reader' '6 connections wait for a peer that is there, and has no room for their data' \
        'fin-unanswered' '6 closed connections repeat their FIN to a peer that drops it' \
        'syn-unanswered' '6 connection attempts repeat their SYN to a peer that drops it' \
        'snat-ports-running-out' 'a NAT rule has 10 source ports, and 10 connections hold them' \
        'snat-ports-enough' 'a NAT rule has 40 source ports; 50 connections fit, since 40 are over' \
        'conntrack-filling' '300 closed connections, each with an entry of connection tracking' \
        'restart-blocked' 'a server ended; 5 TIME_WAITs on its port block the next bind()' \
        'ephemeral-listener' 'a service on port 40000, which outgoing connections may take while it is down' \
        'misleading-sysctl' 'net.ipv4.tcp_tw_reuse=1 is set, and TCP timestamps are off' \
        'stuck-on-upstream' 'a server leaves 5 closed connections unread: its workers wait for a database' \
        'slow-upstream' 'an event loop waits for a slow database and still watches all its clients' \
        'workers-in-lock' 'a server leaves 5 closed connections unread: all its workers wait for a lock' \
        'idle-workers' '4 workers wait for work, and a loop watches 5 quiet clients for them' \
        'epoll-forgot' 'an event loop watches 1 of 40 connections; the 39 others are closed, unread' \
        'select-limit' 'a loop waits in select(), and its connections have descriptors from 1,024 on' \
        'inherited' 'a child holds 5 connections that its parent and the clients have closed' \
        'not-inherited' 'a server closes 5 connections while a helper runs that did not get them' \
        'old-worker' 'after a reload an old worker keeps 5 connections that its clients have closed' \
        'stopped' '5 connections of a stopped server are closed by their clients, unread'
end

function __twdiag_words_command
    printf '%s\t%s\n' \
        'diagnose' 'Report what the closing side of TCP does to this host.' \
        'check' 'Check this host: one status line, perfdata and an exit code.' \
        'watch' 'Watch what closes, piles up and runs out, live.' \
        'trace' 'Show each connection\'s end: who closed first, how and why.' \
        'sockets' 'List sockets with role, age, queues, owner and who closed first.' \
        'port' 'Say why a port cannot be bound, by whom and until when.' \
        'doctor' 'Show what this host lets twdiag see, and check its readers.' \
        'explain' 'Explain a state, a finding or a myth by the TCP handshake.' \
        'help' 'Show the help of twdiag or of a command.' \
        'lab' 'Make each problem with real sockets in a private namespace.'
end

complete --command twdiag --no-files
complete --command twdiag --condition '__twdiag_is "" 0' --arguments diagnose --description 'Report what the closing side of TCP does to this host.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments check --description 'Check this host: one status line, perfdata and an exit code.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments watch --description 'Watch what closes, piles up and runs out, live.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments trace --description 'Show each connection\'s end: who closed first, how and why.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments sockets --description 'List sockets with role, age, queues, owner and who closed first.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments port --description 'Say why a port cannot be bound, by whom and until when.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments doctor --description 'Show what this host lets twdiag see, and check its readers.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments explain --description 'Explain a state, a finding or a myth by the TCP handshake.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments help --description 'Show the help of twdiag or of a command.'
complete --command twdiag --condition '__twdiag_is "" 0' --arguments lab --description 'Make each problem with real sockets in a private namespace.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option all-netns --description 'Look in every network namespace, and say what hides some.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option this-netns --description 'Look in this network namespace alone.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option interval --exclusive --description 'Compare with a second sample after S seconds, and watch what closes meanwhile.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option json --description 'Write JSON, schema twdiag/1.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option format --exclusive --arguments 'text json nagios prometheus' --description 'Write in this format.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option brief --description 'Write one line per finding.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option full --description 'Write everything about every finding.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option select --exclusive --arguments '(__twdiag_words_rule)' --description 'Run only this rule (repeatable).'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option ignore --exclusive --arguments '(__twdiag_words_rule)' --description 'Leave this rule out (repeatable).'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option limit --exclusive --arguments '(__twdiag_words_limit)' --description 'Set one limit (repeatable).'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option config --require-parameter --force-files --description 'Read settings from this TOML file too.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option source --exclusive --arguments 'auto netlink pyroute2 psutil proc' --description 'Read sockets from this source; auto is netlink, else proc.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option ascii --description 'Draw with ASCII characters only.'
complete --command twdiag --condition '__twdiag_is "" 99' --long-option color --exclusive --arguments 'auto always never' --description 'Use colours; auto is on a terminal.'
complete --command twdiag --condition '__twdiag_is "" 99' --short-option V --long-option version --description 'Show the version and exit.'
complete --command twdiag --condition '__twdiag_is "" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option all-netns --description 'Look in every network namespace, and say what hides some.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option this-netns --description 'Look in this network namespace alone.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option interval --exclusive --description 'Compare with a second sample after S seconds, and watch what closes meanwhile.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option json --description 'Write JSON, schema twdiag/1.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option format --exclusive --arguments 'text json nagios prometheus' --description 'Write in this format.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option brief --description 'Write one line per finding.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option full --description 'Write everything about every finding.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option select --exclusive --arguments '(__twdiag_words_rule)' --description 'Run only this rule (repeatable).'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option ignore --exclusive --arguments '(__twdiag_words_rule)' --description 'Leave this rule out (repeatable).'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option limit --exclusive --arguments '(__twdiag_words_limit)' --description 'Set one limit (repeatable).'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option config --require-parameter --force-files --description 'Read settings from this TOML file too.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option source --exclusive --arguments 'auto netlink pyroute2 psutil proc' --description 'Read sockets from this source; auto is netlink, else proc.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option ascii --description 'Draw with ASCII characters only.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --long-option color --exclusive --arguments 'auto always never' --description 'Use colours; auto is on a terminal.'
complete --command twdiag --condition '__twdiag_is "diagnose" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option w --long-option warning --exclusive --arguments '(__twdiag_words_metric)' --description 'WARNING where METRIC is outside RANGE (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option c --long-option critical --exclusive --arguments '(__twdiag_words_metric)' --description 'CRITICAL where METRIC is outside RANGE (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option state --require-parameter --force-files --description 'Remember this run in FILE and compare with the last.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option q --long-option quiet --description 'Say nothing on OK.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option notify-on --exclusive --arguments 'always problem change' --description 'Say something always, on a problem or on a change (needs --state).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option again-after --exclusive --description 'With --notify-on change, repeat a lasting problem after 4h, 30m or 1d.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option format --exclusive --arguments 'text json prometheus checkmk' --description 'Write in this format.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option output --require-parameter --force-files --description 'Write to FILE, which is replaced as a whole.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option all-netns --description 'Look in every network namespace, and say what hides some.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option select --exclusive --arguments '(__twdiag_words_rule)' --description 'Run only this rule (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option ignore --exclusive --arguments '(__twdiag_words_rule)' --description 'Leave this rule out (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option limit --exclusive --arguments '(__twdiag_words_limit)' --description 'Set one limit (repeatable).'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option config --require-parameter --force-files --description 'Read settings from this TOML file too.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option warn-on --exclusive --arguments 'notice warning' --description 'Make findings of this severity or worse a WARNING.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option exit-zero --description 'Exit 0 on WARNING and CRITICAL too, not on UNKNOWN.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option t --long-option timeout --exclusive --description 'Give up with UNKNOWN after S seconds.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option source --exclusive --arguments 'auto netlink pyroute2 psutil proc' --description 'Read sockets from this source; auto is netlink, else proc.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option v --long-option verbose --description 'Add the findings; -vv adds causes and advice too.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option list-metrics --description 'List the metrics for --warning and --critical.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option show-limits --description 'Show the limits in force and where they come from.'
complete --command twdiag --condition '__twdiag_is "check" 99' --long-option print-config --exclusive --arguments 'nagios nrpe icinga2 checkmk cron systemd-timer node-exporter prometheus-rules' --description 'Print a configuration to copy: nagios, nrpe, icinga2, checkmk, cron, systemd-timer, node-exporter, prometheus-rules.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option V --long-option version --description 'Show the version and exit.'
complete --command twdiag --condition '__twdiag_is "check" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option interval --exclusive --description 'Look again after this time.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option count --exclusive --description 'End after N looks.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option for --exclusive --description 'End after this time, such as 30s, 5m or 1h.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option json --description 'Write JSON, schema twdiag-watch/1, a line for a look.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option source --exclusive --arguments 'auto tracefs multicast none' --description 'Learn of closes from this source; auto is the best.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option select --exclusive --arguments '(__twdiag_words_rule)' --description 'Run only this rule (repeatable).'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option ignore --exclusive --arguments '(__twdiag_words_rule)' --description 'Leave this rule out (repeatable).'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option limit --exclusive --arguments '(__twdiag_words_limit)' --description 'Set one limit (repeatable).'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option config --require-parameter --force-files --description 'Read settings from this TOML file too.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option ascii --description 'Draw with ASCII characters only.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --long-option color --exclusive --arguments 'auto always never' --description 'Use colours; auto is on a terminal.'
complete --command twdiag --condition '__twdiag_is "watch" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option for --exclusive --description 'End after this time, such as 30s, 5m or 1h.'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option source --exclusive --arguments 'auto tracefs multicast' --description 'Learn of closes from this source; auto is the best that is allowed.'
complete --command twdiag --condition '__twdiag_is "trace" 99' --long-option json --description 'Write JSON, one object for each line.'
complete --command twdiag --condition '__twdiag_is "trace" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option state --exclusive --arguments '(__twdiag_words_state)' --description 'Show only sockets in this state (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option port --exclusive --description 'Show only what concerns this port (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option peer --exclusive --description 'Show only this remote address, network, port or address:port (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option process --exclusive --description 'Show only what concerns this process, a name or PID (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option rule --exclusive --arguments '(__twdiag_words_rule)' --description 'Show only what this rule finds (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option all-netns --description 'Look in every network namespace, and say what hides some.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option sort --exclusive --arguments 'age left recv-q send-q state port peer process' --description 'Sort by this; the oldest, largest or soonest gone come first.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option top --exclusive --description 'Show only the first N, sorted by age unless --sort says otherwise.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option json --description 'Write JSON, one object for each line.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option csv --description 'Write CSV with a line of column names.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option limit --exclusive --arguments '(__twdiag_words_limit)' --description 'Set one limit (repeatable).'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option config --require-parameter --force-files --description 'Read settings from this TOML file too.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --long-option source --exclusive --arguments 'auto netlink proc' --description 'Read sockets from this source; auto is netlink, else proc.'
complete --command twdiag --condition '__twdiag_is "sockets" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "port" 0' --arguments '(__twdiag_words_free)'
complete --command twdiag --condition '__twdiag_is "port" 99' --long-option netns --exclusive --description 'Look in this network namespace: a name, a path, a PID or a container.'
complete --command twdiag --condition '__twdiag_is "port" 99' --long-option json --description 'Write JSON, schema twdiag-port/1.'
complete --command twdiag --condition '__twdiag_is "port" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "doctor" 99' --long-option json --description 'Write JSON, schema twdiag-doctor/1, without private data.'
complete --command twdiag --condition '__twdiag_is "doctor" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "explain" 0' --arguments '(__twdiag_words_page)'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option live --description 'Add this host\'s own numbers to a state or a rule.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option step --description 'Walk through a scenario, one key at a time.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option json --description 'Write JSON, schema twdiag-explain/1.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option pager --description 'Show long texts in a pager, on a terminal.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option no-pager --description 'Show long texts in a pager, on a terminal.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option ascii --description 'Draw with ASCII characters only.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --long-option color --exclusive --arguments 'auto always never' --description 'Use colours; auto is on a terminal.'
complete --command twdiag --condition '__twdiag_is "explain" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "help" 0' --arguments '(__twdiag_words_command)'
complete --command twdiag --condition '__twdiag_is "help" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "lab" 0' --arguments list --description 'List the scenarios and what each of them should show.'
complete --command twdiag --condition '__twdiag_is "lab" 0' --arguments run --description 'Run a scenario and diagnose it.'
complete --command twdiag --condition '__twdiag_is "lab" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "lab-list" 99' --short-option h --long-option help --description 'Show this message and exit.'
complete --command twdiag --condition '__twdiag_is "lab-run" 0' --arguments '(__twdiag_words_scenario)'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --long-option json --description 'Write JSON, schema twdiag/1.'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --long-option brief --description 'Write one line per finding.'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --long-option full --description 'Write everything about every finding.'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --long-option ascii --description 'Draw with ASCII characters only.'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --long-option color --exclusive --arguments 'auto always never' --description 'Use colours; auto is on a terminal.'
complete --command twdiag --condition '__twdiag_is "lab-run" 99' --short-option h --long-option help --description 'Show this message and exit.'
