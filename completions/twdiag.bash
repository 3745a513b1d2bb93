# bash completion for twdiag, made from its command line; do not edit.

_twdiag() {
    local IFS=$' \t\n' word glue='' command='' option='' count=0 i
    local -a line=('')
    COMPREPLY=()

    # Put together what readline takes apart at "=" and ":".
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == [=:]* && i -gt 1 ]]; then
            line[${#line[@]}-1]+=$word
            glue=1
        elif [[ -n $glue ]]; then
            line[${#line[@]}-1]+=$word
            glue=''
        else
            line+=("$word")
        fi
    done

    # Which command is it, and does an option wait for its value?
    for word in "${line[@]:1:${#line[@]}-2}"; do
        if [[ -n $option ]]; then
            option=''
            continue
        fi
        case "$command $word" in
            ' diagnose') command=diagnose ;;
            ' check') command=check ;;
            ' watch') command=watch ;;
            ' trace') command=trace ;;
            ' sockets') command=sockets ;;
            ' port') command=port ;;
            ' doctor') command=doctor ;;
            ' explain') command=explain ;;
            ' help') command=help ;;
            ' lab') command=lab ;;
            'lab list') command=lab-list ;;
            'lab run') command=lab-run ;;
            ' --port' | ' --process' | ' --netns' | ' --interval' | ' --format' | ' --select' | ' --ignore' | ' --limit' | ' --config' | ' --source' | ' --color') option=$word ;;
            'diagnose --port' | 'diagnose --process' | 'diagnose --netns' | 'diagnose --interval' | 'diagnose --format' | 'diagnose --select' | 'diagnose --ignore' | 'diagnose --limit' | 'diagnose --config' | 'diagnose --source' | 'diagnose --color') option=$word ;;
            'check -w' | 'check --warning' | 'check -c' | 'check --critical' | 'check --state' | 'check --notify-on' | 'check --again-after' | 'check --format' | 'check --output' | 'check --port' | 'check --process' | 'check --select' | 'check --ignore' | 'check --limit' | 'check --config' | 'check --warn-on' | 'check -t' | 'check --timeout' | 'check --source' | 'check --print-config') option=$word ;;
            'watch --interval' | 'watch --port' | 'watch --process' | 'watch --netns' | 'watch --count' | 'watch --for' | 'watch --source' | 'watch --select' | 'watch --ignore' | 'watch --limit' | 'watch --config' | 'watch --color') option=$word ;;
            'trace --port' | 'trace --process' | 'trace --netns' | 'trace --for' | 'trace --source') option=$word ;;
            'sockets --state' | 'sockets --port' | 'sockets --peer' | 'sockets --process' | 'sockets --rule' | 'sockets --netns' | 'sockets --sort' | 'sockets --top' | 'sockets --limit' | 'sockets --config' | 'sockets --source') option=$word ;;
            'port --netns') option=$word ;;
            'explain --color') option=$word ;;
            'lab-run --color') option=$word ;;
            *' '-*) ;;
            *) ((count++)) ;;
        esac
    done

    local current=${line[${#line[@]}-1]} prefix='' wanted='' end=''
    if [[ -z $option && $current == --*=* ]]; then
        option=${current%%=*}
        prefix=$option=
        current=${current#*=}
    fi
    if [[ -n $option ]]; then
        case "$command $option" in
            ' --format') wanted='text json nagios prometheus' ;;
            ' --select') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            ' --ignore') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            ' --limit') wanted='ports-notice ports-warning ports-critical snat-ports-warning snat-ports-critical conntrack-warning conntrack-critical accept-wait-warning accept-wait-critical close-wait-notice fds-warning fds-critical fds-warning-seconds fds-critical-seconds sockets-nobody-sees sockets-nobody-sees-share sockets-nobody-sees-many close-wait-age bound-ports-notice bound-ports-warning close-wait-warning close-wait-warning-age close-wait-fds-warning close-wait-fds-critical close-wait-leak-seconds idle-share idle-age idle-grown-age idle-leak-seconds time-wait-table-warning time-wait-table-critical data-unanswered data-unanswered-service data-unanswered-retries data-unanswered-share fin-unanswered fin-unanswered-service fin-unanswered-retries orphans-warning orphans-critical keep-alive-race keep-alive-race-reuse fin-wait2-age fin-wait2-held-notice fin-wait2-held-warning fin-wait2-orphans-notice syn-unanswered syn-unanswered-retries syn-unanswered-share syn-unanswered-destinations restart-blocked time-wait-rising-factor time-wait-rising-table connection-churn server-closes-first server-closes-first-table' end='=' ;;
            ' --config') compopt -o default; return ;;
            ' --source') wanted='auto netlink pyroute2 psutil proc' ;;
            ' --color') wanted='auto always never' ;;
            'diagnose --format') wanted='text json nagios prometheus' ;;
            'diagnose --select') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'diagnose --ignore') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'diagnose --limit') wanted='ports-notice ports-warning ports-critical snat-ports-warning snat-ports-critical conntrack-warning conntrack-critical accept-wait-warning accept-wait-critical close-wait-notice fds-warning fds-critical fds-warning-seconds fds-critical-seconds sockets-nobody-sees sockets-nobody-sees-share sockets-nobody-sees-many close-wait-age bound-ports-notice bound-ports-warning close-wait-warning close-wait-warning-age close-wait-fds-warning close-wait-fds-critical close-wait-leak-seconds idle-share idle-age idle-grown-age idle-leak-seconds time-wait-table-warning time-wait-table-critical data-unanswered data-unanswered-service data-unanswered-retries data-unanswered-share fin-unanswered fin-unanswered-service fin-unanswered-retries orphans-warning orphans-critical keep-alive-race keep-alive-race-reuse fin-wait2-age fin-wait2-held-notice fin-wait2-held-warning fin-wait2-orphans-notice syn-unanswered syn-unanswered-retries syn-unanswered-share syn-unanswered-destinations restart-blocked time-wait-rising-factor time-wait-rising-table connection-churn server-closes-first server-closes-first-table' end='=' ;;
            'diagnose --config') compopt -o default; return ;;
            'diagnose --source') wanted='auto netlink pyroute2 psutil proc' ;;
            'diagnose --color') wanted='auto always never' ;;
            'check -w' | 'check --warning') wanted='time_wait close_wait established ports_used_ratio ports_taken_ratio time_wait_table_ratio closes_per_second recent_closes_per_second close_wait_age fd_ratio accept_queue_ratio orphans_ratio conntrack_ratio snat_ports_ratio fin_wait1 fin_wait2 closing last_ack syn_sent syn_recv listen total time_wait_overflows_total listen_overflows_total conntrack_drops_total new_close_wait new_time_wait_overflows new_listen_overflows new_conntrack_drops' end='=' ;;
            'check -c' | 'check --critical') wanted='time_wait close_wait established ports_used_ratio ports_taken_ratio time_wait_table_ratio closes_per_second recent_closes_per_second close_wait_age fd_ratio accept_queue_ratio orphans_ratio conntrack_ratio snat_ports_ratio fin_wait1 fin_wait2 closing last_ack syn_sent syn_recv listen total time_wait_overflows_total listen_overflows_total conntrack_drops_total new_close_wait new_time_wait_overflows new_listen_overflows new_conntrack_drops' end='=' ;;
            'check --state') compopt -o default; return ;;
            'check --notify-on') wanted='always problem change' ;;
            'check --format') wanted='text json prometheus checkmk' ;;
            'check --output') compopt -o default; return ;;
            'check --select') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'check --ignore') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'check --limit') wanted='ports-notice ports-warning ports-critical snat-ports-warning snat-ports-critical conntrack-warning conntrack-critical accept-wait-warning accept-wait-critical close-wait-notice fds-warning fds-critical fds-warning-seconds fds-critical-seconds sockets-nobody-sees sockets-nobody-sees-share sockets-nobody-sees-many close-wait-age bound-ports-notice bound-ports-warning close-wait-warning close-wait-warning-age close-wait-fds-warning close-wait-fds-critical close-wait-leak-seconds idle-share idle-age idle-grown-age idle-leak-seconds time-wait-table-warning time-wait-table-critical data-unanswered data-unanswered-service data-unanswered-retries data-unanswered-share fin-unanswered fin-unanswered-service fin-unanswered-retries orphans-warning orphans-critical keep-alive-race keep-alive-race-reuse fin-wait2-age fin-wait2-held-notice fin-wait2-held-warning fin-wait2-orphans-notice syn-unanswered syn-unanswered-retries syn-unanswered-share syn-unanswered-destinations restart-blocked time-wait-rising-factor time-wait-rising-table connection-churn server-closes-first server-closes-first-table' end='=' ;;
            'check --config') compopt -o default; return ;;
            'check --warn-on') wanted='notice warning' ;;
            'check --source') wanted='auto netlink pyroute2 psutil proc' ;;
            'check --print-config') wanted='nagios nrpe icinga2 checkmk cron systemd-timer node-exporter prometheus-rules' ;;
            'watch --source') wanted='auto tracefs multicast none' ;;
            'watch --select') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'watch --ignore') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'watch --limit') wanted='ports-notice ports-warning ports-critical snat-ports-warning snat-ports-critical conntrack-warning conntrack-critical accept-wait-warning accept-wait-critical close-wait-notice fds-warning fds-critical fds-warning-seconds fds-critical-seconds sockets-nobody-sees sockets-nobody-sees-share sockets-nobody-sees-many close-wait-age bound-ports-notice bound-ports-warning close-wait-warning close-wait-warning-age close-wait-fds-warning close-wait-fds-critical close-wait-leak-seconds idle-share idle-age idle-grown-age idle-leak-seconds time-wait-table-warning time-wait-table-critical data-unanswered data-unanswered-service data-unanswered-retries data-unanswered-share fin-unanswered fin-unanswered-service fin-unanswered-retries orphans-warning orphans-critical keep-alive-race keep-alive-race-reuse fin-wait2-age fin-wait2-held-notice fin-wait2-held-warning fin-wait2-orphans-notice syn-unanswered syn-unanswered-retries syn-unanswered-share syn-unanswered-destinations restart-blocked time-wait-rising-factor time-wait-rising-table connection-churn server-closes-first server-closes-first-table' end='=' ;;
            'watch --config') compopt -o default; return ;;
            'watch --color') wanted='auto always never' ;;
            'trace --source') wanted='auto tracefs multicast' ;;
            'sockets --state') wanted='ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE_WAIT LAST_ACK LISTEN CLOSING BOUND' ;;
            'sockets --rule') wanted='ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl' ;;
            'sockets --sort') wanted='age left recv-q send-q state port peer process' ;;
            'sockets --limit') wanted='ports-notice ports-warning ports-critical snat-ports-warning snat-ports-critical conntrack-warning conntrack-critical accept-wait-warning accept-wait-critical close-wait-notice fds-warning fds-critical fds-warning-seconds fds-critical-seconds sockets-nobody-sees sockets-nobody-sees-share sockets-nobody-sees-many close-wait-age bound-ports-notice bound-ports-warning close-wait-warning close-wait-warning-age close-wait-fds-warning close-wait-fds-critical close-wait-leak-seconds idle-share idle-age idle-grown-age idle-leak-seconds time-wait-table-warning time-wait-table-critical data-unanswered data-unanswered-service data-unanswered-retries data-unanswered-share fin-unanswered fin-unanswered-service fin-unanswered-retries orphans-warning orphans-critical keep-alive-race keep-alive-race-reuse fin-wait2-age fin-wait2-held-notice fin-wait2-held-warning fin-wait2-orphans-notice syn-unanswered syn-unanswered-retries syn-unanswered-share syn-unanswered-destinations restart-blocked time-wait-rising-factor time-wait-rising-table connection-churn server-closes-first server-closes-first-table' end='=' ;;
            'sockets --config') compopt -o default; return ;;
            'sockets --source') wanted='auto netlink proc' ;;
            'explain --color') wanted='auto always never' ;;
            'lab-run --color') wanted='auto always never' ;;
        esac
    elif [[ $current == -* ]]; then
        case $command in
            '') wanted='--port --process --netns --all-netns --this-netns --interval --json --format --brief --full --select --ignore --limit --config --source --ascii --color -V --version -h --help' ;;
            'diagnose') wanted='--port --process --netns --all-netns --this-netns --interval --json --format --brief --full --select --ignore --limit --config --source --ascii --color -h --help' ;;
            'check') wanted='-w --warning -c --critical --state -q --quiet --notify-on --again-after --format --output --port --process --all-netns --select --ignore --limit --config --warn-on --exit-zero -t --timeout --source -v --verbose --list-metrics --show-limits --print-config -V --version -h --help' ;;
            'watch') wanted='--interval --port --process --netns --count --for --json --source --select --ignore --limit --config --ascii --color -h --help' ;;
            'trace') wanted='--port --process --netns --for --source --json -h --help' ;;
            'sockets') wanted='--state --port --peer --process --rule --netns --all-netns --sort --top --json --csv --limit --config --source -h --help' ;;
            'port') wanted='--netns --json -h --help' ;;
            'doctor') wanted='--json -h --help' ;;
            'explain') wanted='--live --step --json --pager --no-pager --ascii --color -h --help' ;;
            'help') wanted='-h --help' ;;
            'lab') wanted='-h --help' ;;
            'lab-list') wanted='-h --help' ;;
            'lab-run') wanted='--json --brief --full --ascii --color -h --help' ;;
        esac
    else
        case $command in
            '') wanted='diagnose check watch trace sockets port doctor explain help lab' ;;
            'diagnose') wanted='--port --process --netns --all-netns --this-netns --interval --json --format --brief --full --select --ignore --limit --config --source --ascii --color --help' ;;
            'check') wanted='--warning --critical --state --quiet --notify-on --again-after --format --output --port --process --all-netns --select --ignore --limit --config --warn-on --exit-zero --timeout --source --verbose --list-metrics --show-limits --print-config --version --help' ;;
            'watch') wanted='--interval --port --process --netns --count --for --json --source --select --ignore --limit --config --ascii --color --help' ;;
            'trace') wanted='--port --process --netns --for --source --json --help' ;;
            'sockets') wanted='--state --port --peer --process --rule --netns --all-netns --sort --top --json --csv --limit --config --source --help' ;;
            'port') ((count)) || wanted='' ;;
            'doctor') wanted='--json --help' ;;
            'explain') ((count)) || wanted='LISTEN SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSING TIME_WAIT CLOSE_WAIT LAST_ACK CLOSED error-messages find-the-line forgotten-or-stuck recv-q dead-peer idle-timeouts old-process-after-reload ephemeral-ports nat-and-conntrack counters states active-and-passive-closer close-wait-and-time-wait why-four-segments why-the-last-ack why-the-first-fin-carries-ack why-time-wait how-long-is-time-wait half-close graceful-and-abrupt flags who-should-close keep-alive shutdown so-linger reuse-options descriptor-copies fin-wait2-and-tcp-fin-timeout orphans sysctls myths three-way-open four-way-close half-close-with-data three-segment-close simultaneous-close last-ack-lost last-ack-lost-without-time-wait old-segment late-data-in-time-wait old-segment-without-time-wait fin-lost peer-vanished half-open close-wait-for-ever syn-meets-last-ack syn-meets-time-wait old-syn-meets-time-wait bind-fails-after-restart abrupt-close close-with-unread-data request-meets-close tcp-fin-timeout-shortens-time-wait tcp-tw-recycle tcp-tw-reuse-on-a-server time-wait-uses-descriptors lower-tcp-max-tw-buckets data-is-lost-without-time-wait only-old-data-harms time-wait-gives-the-server-time final-ack-after-2msl last-ack-means-ready closed-after-the-last-ack fin-wait-begins-with-the-ack time-wait-lasts-240-seconds only-clients-have-time-wait many-time-waits-are-a-fault close-wait-times-out linger-zero-is-the-cure reuseaddr-always-helps a-host-has-65535-connections four-segments-always fin-carries-ack-because-of-half-close fin-is-resent-for-ever last-ack-answers-rst unreachable-means-rst estab-counts-healthy-connections restart-clears-time-wait ports-running-out snat-ports-running-out conntrack-filling accept-queue-full fd-limit-near sockets-nobody-sees close-wait-never-accepted bound-ports-running-out close-wait-leak close-wait-unread idle-established-leak time-wait-table-filling data-unanswered fin-unanswered keep-alive-race peer-never-closes syn-unanswered restart-blocked close-wait-idle-pool time-wait-rising connection-churn server-closes-first listener-in-ephemeral-range misleading-sysctl aiohttp apache-httpclient apache aws-alb aws-nlb azure-lb caddy cowboy dotnet-httpclient envoy gcp-lb go grpc gunicorn haproxy hikaricp httpx hypercorn jdk-httpclient jetty kestrel memcached mysql nginx nodejs okhttp pgbouncer php-fpm postgresql psycopg-pool puma redis-py redis requests reqwest sqlalchemy squid tinyproxy tomcat traefik undertow uvicorn uwsgi' ;;
            'help') ((count)) || wanted='diagnose check watch trace sockets port doctor explain help lab' ;;
            'lab') wanted='list run' ;;
            'lab-list') wanted='--help' ;;
            'lab-run') ((count)) || wanted='idle busy-keep-alive keep-alive-race keep-alive-in-order simultaneous-close linger-zero server-closes-first ipv6 dual-stack reuse-port one-address orphan-fin-wait2 client-closes-first ports-running-out ports-reusable bound-ports-running-out time-wait-rising closing-schedule bucket-overflow close-wait-young close-wait-leak many-leaks hostile-name fd-limit fd-limit-established sockets-nobody-sees sockets-elsewhere idle-established-leak idle-timeout idle-database busy-pool websocket-server close-wait-unread close-wait-never-accepted accept-queue-full accept-queue-busy close-wait-idle-pool half-close data-unanswered slow-reader fin-unanswered syn-unanswered snat-ports-running-out snat-ports-enough conntrack-filling restart-blocked ephemeral-listener misleading-sysctl stuck-on-upstream slow-upstream workers-in-lock idle-workers epoll-forgot select-limit inherited not-inherited old-worker stopped' ;;
        esac
    fi

    # Offer what begins like it, in any case, without the part that readline keeps.
    local kept=${line[${#line[@]}-1]}
    word=${COMP_WORDS[COMP_CWORD]}
    [[ $word == [=:]* ]] || kept=${kept%"$word"}
    for word in $wanted; do
        if [[ ${word,,} == "${current,,}"* ]]; then
            word=$prefix$word$end
            COMPREPLY+=("${word#"$kept"}")
        fi
    done
    [[ -n $end ]] && compopt -o nospace
    return 0
}

complete -F _twdiag twdiag
