"""The facts that evidence is made of: each with its key in JSON, its label, unit and meaning."""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Unit(enum.Enum):
    """What a number counts."""

    NUMBER = ""
    RATIO = "ratio"
    SECONDS = "seconds"
    PER_SECOND = "per second"
    TEXT = "text"
    HISTORY = "closes in each of the last 60 seconds, newest last"


class Fact(str):
    """A fact: a string, the key of its value in JSON, with what people need to read the value.

    `label` stands before the value on the screen; a fact with `first` is on the first screen, the
    others in the full report.
    """

    __slots__ = ("first", "label", "meaning", "unit")
    label: str
    unit: Unit
    meaning: str
    first: bool

    def __new__(
        cls,
        key: str,
        meaning: str,
        *,
        label: str = "",
        unit: Unit = Unit.NUMBER,
        first: bool = True,
    ) -> Fact:
        """Make a fact; it is labelled by the words of its key unless told otherwise."""
        fact = super().__new__(cls, key)
        fact.label = label or key.replace("_", " ")
        fact.unit = unit
        fact.meaning = meaning
        fact.first = first
        return fact

    def __reduce__(self) -> tuple[object, ...]:
        """Let a report be handed from one process to another: a fact is known by its key."""
        return _known, (str(self),)


def _known(key: str) -> Fact:
    return catalogue()[key]


_in_full: Final = partial(Fact, first=False)
_ratio: Final = partial(Fact, unit=Unit.RATIO)
_seconds: Final = partial(Fact, unit=Unit.SECONDS)
_rate: Final = partial(Fact, unit=Unit.PER_SECOND)
_text: Final = partial(Fact, unit=Unit.TEXT)

# Sockets.
SOCKETS: Final = Fact("sockets", "sockets concerned")
TIME_WAIT: Final = Fact("time_wait", "sockets in TIME_WAIT", label="TIME_WAIT")
FIN_WAIT1: Final = Fact("fin_wait1", "sockets in FIN_WAIT1", label="FIN_WAIT1")
FIN_WAIT2: Final = Fact("fin_wait2", "sockets in FIN_WAIT2", label="FIN_WAIT2")
CLOSE_WAIT: Final = Fact("close_wait", "sockets in CLOSE_WAIT", label="CLOSE_WAIT")
SYN_SENT: Final = Fact("syn_sent", "unanswered connection attempts", label="SYN_SENT")
ESTABLISHED: Final = Fact("established", "sockets in ESTABLISHED", label="ESTABLISHED")
IDLE: Final = Fact(
    "idle",
    "connections on which nothing moves and that no keepalive guards",
    label="idle connections",
)
IDLE_MAX: Final = _seconds(
    "idle_seconds_max", "for how long nothing has moved on the oldest of them", label="idle up to"
)
OTHER_STATES: Final = Fact("other_states", "sockets in any other state")
STATES: Final = _text("states", "the states of the sockets, the most frequent first")
STATE_SOCKETS: Final = Fact("state_sockets", "the sockets in each of these states", label="in each")
HELD: Final = Fact("held", "sockets that a process still holds")
ORPHANS: Final = Fact("orphans", "sockets that no process holds any more")
UNANSWERED: Final = Fact("unanswered", "sockets whose data or FIN is not acknowledged")
ALIVE: Final = Fact(
    "alive",
    "other connections that are open: of the peer or service, else of all clients here",
    label="others open",
)
ZERO_WINDOW: Final = Fact("zero_window", "of them those whose peer has no room for data")
RETRANSMISSIONS: Final = Fact("retransmissions", "the most retransmissions of one socket")
PROBABLY_MORE: Final = Fact("lower_bound", "whether there may be more", label="a lower bound:")
RECV_Q: Final = Fact("recv_q", "the largest receive queue, bytes", label="Recv-Q")
SEND_Q: Final = Fact("send_q", "unacknowledged bytes of all", label="Send-Q")
UNREAD_BYTES: Final = Fact("unread_bytes", "data that arrived before the FIN and was not read")
SERVER_SIDE: Final = Fact(
    "server_side", "whether these are a server's connections", label="a server's connections:"
)
NEW: Final = Fact("new_since_first_sample", "sockets that began to wait since the first sample")
AGE_MIN: Final = _seconds("age_seconds_min", "least age of the youngest", label="youngest at least")
AGE_MAX: Final = _seconds("age_seconds_max", "greatest age of the oldest", label="oldest at most")

GROWTH: Final = _rate(
    "growth_per_second",
    "by how many sockets a process grows, told by their ages or two samples",
    label="growth",
)

# Rates.
CLOSES: Final = _rate(
    "closes_per_second", "closes into TIME_WAIT, mean of the minute", label="closes on average"
)
CLOSES_NOW: Final = _rate(
    "recent_closes_per_second",
    "the same now: mean of the last ten seconds where they are steady, else the median of three; "
    "by the kernel's counters where rows are replaced",
    label="closes now",
)
CLOSES_BEFORE: Final = _rate(
    "closes_per_second_before", "the same in the fifty seconds before", label="closes before"
)
CLOSES_BEGAN: Final = Fact(
    "closes_began",
    "how long ago the first close of the minute was, where a quiet time came before it",
    unit=Unit.SECONDS,
    label="closes began",
)
CLOSES_AT_LEAST: Final = Fact(
    "closes_at_least",
    "whether more connections close than the rows show, because TIME_WAITs are replaced",
    label="closes are more than the rows show:",
)
HISTORY: Final = Fact("closes_per_second_history", "closes of each second", unit=Unit.HISTORY)
PROJECTED: Final = Fact("projected", "where the number settles at this rate", label="settles at")
PROJECTED_RATIO: Final = _ratio(
    "projected_ratio", "the same as a share of the limit", label="that would be"
)
SUSTAINED: Final = _rate(
    "sustained_limit_per_second",
    "the closing rate that the ports allow for good",
    label="sustainable rate",
)

# Ports and tables.
USED: Final = Fact("used", "local ports in use")
PORTS: Final = Fact("ports", "local ports that there are")
USED_RATIO: Final = _ratio(
    "used_ratio", "what is used as a share of what there is", label="that is"
)
REUSABLE: Final = Fact("reusable", "TIME_WAITs that tcp_tw_reuse lets connect() reuse")
TAKEN_RATIO: Final = _ratio(
    "taken_ratio",
    "ports that connect() cannot get, as a share",
    label="unavailable to connect()",
    first=False,
)
SECONDS_LEFT: Final = _seconds(
    "seconds_to_exhaustion", "time until none is left", label="time left"
)
SECONDS_UNTIL_FREE: Final = _seconds(
    "seconds_until_free", "time until the last socket is gone", label="free in"
)
RANGE_LOW: Final = _in_full("range_low", "first port of ip_local_port_range")
RANGE_HIGH: Final = _in_full("range_high", "last port of ip_local_port_range")
RANGE_WIDENED: Final = Fact("range_widened", "whether the range was widened over the ports")
RESERVED: Final = Fact("reserved_ports", "ports taken away by ip_local_reserved_ports")
BLOCKED: Final = Fact("blocked_ports", "ports taken away by listeners and bound sockets")
BIND_PARITY: Final = Fact(
    "bind_parity_ports",
    "ports of the parity that bind(0) takes first",
    label="of bind()'s parity",
)
LIMIT: Final = _in_full("limit", "the limit that the number is a share of")
TABLE_RATIO: Final = _ratio(
    "table_ratio", "share of tcp_max_tw_buckets", label="of the TIME_WAIT table"
)
OVERFLOWS: Final = Fact("overflows", "sockets that lost their TIME_WAIT since the first sample")
OVERFLOWS_SINCE_BOOT: Final = Fact("overflows_since_boot", "the same since boot")
TW_REUSE: Final = Fact("tcp_tw_reuse", "the sysctl", label="tcp_tw_reuse")
FIN_TIMEOUT: Final = Fact("tcp_fin_timeout", "the sysctl", label="tcp_fin_timeout")
SYSCTL: Final = _text("sysctl", "the name of the setting", first=False)
VALUE: Final = _text("value", "its value")

# Connection tracking.
ENTRIES: Final = Fact("entries", "entries of connection tracking")
ENTRIES_MAX: Final = Fact("entries_max", "nf_conntrack_max", label="of at most")
LIVE_ENTRIES: Final = Fact("live_entries", "entries of connections that are not over", label="live")
OVER_ENTRIES: Final = Fact(
    "over_entries", "entries of connections that are over, in TIME_WAIT or CLOSE", label="over"
)
ENTRY_STATES: Final = _text("entry_states", "the states of the entries, the most frequent first")
STATE_ENTRIES: Final = Fact("state_entries", "the entries in each of these states")
SNAT_PORTS: Final = Fact("snat_ports", "source ports that the rule, or else the kernel, can give")
SNAT_LOW: Final = _in_full("snat_low", "the first of these ports")
SNAT_HIGH: Final = _in_full("snat_high", "the last of these ports")
SNAT_BY_RULE: Final = _in_full("snat_ports_by_rule", "whether a rule names them")
ESTIMATED: Final = Fact(
    "estimated", "whether the entries are estimated from a part of them", label="an estimate:"
)
INSERT_FAILED: Final = Fact(
    "insert_failed", "connections that got no entry since boot, for want of a port or in a race"
)
NEW_INSERT_FAILED: Final = Fact("new_insert_failed", "the same since the first sample")
TABLE_DROPS: Final = Fact("table_drops", "packets dropped for want of an entry since boot")
NEW_TABLE_DROPS: Final = Fact("new_table_drops", "the same since the first sample")
EVICTIONS: Final = Fact("evictions", "entries thrown out of the full table since boot")
NEW_EVICTIONS: Final = Fact("new_evictions", "the same since the first sample")

# Accept queues.
ACCEPT_QUEUE: Final = Fact("accept_queue", "connections that wait for accept()")
ACCEPTED: Final = Fact("accepted", "live connections of the listener that were accepted")
BACKLOG: Final = Fact("backlog", "connections that may wait, less one")
WAITED: Final = _seconds(
    "oldest_waiting_seconds",
    "for how long the oldest live connection has waited for accept()",
    label="oldest waits",
)
SOMAXCONN: Final = Fact("somaxconn", "net.core.somaxconn")
LISTEN_OVERFLOWS: Final = Fact("listen_overflows", "connections dropped at a full queue since boot")
NEW_LISTEN_OVERFLOWS: Final = Fact("new_listen_overflows", "the same since the first sample")
FULLEST_LISTENERS: Final = _text("fullest_listeners", "the listeners with the longest queues")
LISTENERS: Final = Fact("listeners", "listeners concerned")

# Processes.
PROCESSES: Final = _text("processes", "the processes that hold the sockets")
LIKELY_PROCESSES: Final = _text(
    "likely_processes", "processes with live sockets to the destination"
)
PROCESS_COUNT: Final = _in_full("process_count", "processes of the program")
PIDS: Final = _in_full("pids", "their numbers")
FDS: Final = Fact("fds", "descriptors that the process has open", label="open descriptors")
FD_LIMIT: Final = Fact("fd_limit", "its soft RLIMIT_NOFILE", label="descriptor limit")
FD_RATIO: Final = _ratio(
    "fd_ratio", "open descriptors as a share of the limit", label="in use", first=False
)
WAITING_FD_RATIO: Final = _ratio(
    "close_wait_fd_ratio",
    "CLOSE_WAITs as a share of the limit",
    label="CLOSE_WAITs of that limit",
    first=False,
)
NOWHERE: Final = Fact(
    "sockets_in_no_table", "TCP sockets of the process that no table shows: reset, never closed"
)
ELSEWHERE: Final = Fact(
    "sockets_elsewhere", "TCP sockets of the process that belong to another network namespace"
)
FILES: Final = Fact("files", "descriptors that are files")
PIPES: Final = Fact("pipes", "descriptors that are pipes")
OTHER_FDS: Final = Fact(
    "other_fds", "descriptors that are anything else", label="other descriptors"
)
LOOKED: Final = _in_full("looked_at", "descriptors that were looked at")
UID: Final = _in_full("uid", "the user of the sockets")

# Ends.
PEERS: Final = _text(
    "peers",
    "the services that the sockets belong to; for unanswered data and FINs the number of addresses",
)

PEER_SOCKETS: Final = Fact(
    "peer_sockets", "the sockets of each of these services", label="sockets of each"
)
SERVICE_PORTS: Final = _in_full("service_ports", "the ports of these services")
DESTINATIONS: Final = Fact("destinations", "distinct destinations")
ADDRESSES: Final = _text("addresses", "local addresses concerned")
TOP_CLIENTS: Final = _text(
    "top_clients",
    "remote addresses with the most closed connections",
    label="busiest clients",
    first=False,
)
TOP_CLIENT_SOCKETS: Final = Fact(
    "top_client_sockets", "how many each of them has", label="sockets of each"
)

# Idle connections.
IDLE_TIMEOUT: Final = _seconds(
    "idle_timeout_seconds",
    "idle time after which the server closes, as measured",
    label="closes after",
)
IDLE_TIMEOUT_MAX: Final = _seconds(
    "idle_timeout_seconds_max", "the longest such idle time", label="at the latest after"
)
IDLE_CLOSES: Final = Fact("idle_closes", "idle connections that the server closed first")
LOST_REQUESTS: Final = Fact("lost_requests", "of them those that met a request: it was lost")
LATE_DATA: Final = Fact(
    "late_data", "of them those after which data came: lost requests, or late last words"
)
USED_AGAIN: Final = Fact("used_again", "of them those that had been used again after such a pause")
USED_AFTER: Final = _seconds(
    "used_again_after_seconds",
    "the longest pause after which a client was seen to send again, at least",
    label="after a pause of at least",
)
REQUESTS: Final = Fact(
    "requests_per_connection", "requests that a connection carried, at most, the median"
)
IDLE_OPEN: Final = _seconds(
    "idle_open_seconds",
    "the longest idle time of a connection that was open",
    label="open and idle for",
)
PEER_CLOSES: Final = Fact("idle_closes_by_clients", "idle connections that clients closed first")
PEER_IDLE: Final = _seconds(
    "idle_seconds_by_clients", "their idle time, the median", label="idle for"
)
WATCHED: Final = _seconds("watched_seconds", "for how long it was watched", label="watched for")

# What a report says of a namespace without a finding.
BY_SERVERS: Final = Fact("time_wait_server_closed", "TIME_WAITs that servers here closed first")
BY_CLIENTS: Final = Fact("time_wait_client_closed", "TIME_WAITs that clients here closed first")
BY_UNKNOWN: Final = Fact(
    "time_wait_unknown_closed", "TIME_WAITs on ports that nobody holds any more"
)
TIME_WAIT_LIMIT: Final = Fact("time_wait_limit", "tcp_max_tw_buckets")
SMALL_DESTINATIONS: Final = Fact(
    "sockets_to_small_destinations", "sockets to destinations too small to be told apart"
)
BUSIEST: Final = _text("busiest_destination", "the destination with the most sockets")
BUSIEST_USED: Final = Fact("busiest_destination_used", "the ports used towards it")
HIDDEN: Final = Fact("hidden_findings", "findings that a filter leaves out")
HIDDEN_WORST: Final = _text("hidden_worst", "the worst severity of them")


def catalogue() -> Mapping[str, Fact]:
    """Return all facts by key."""
    return {value: value for value in globals().values() if isinstance(value, Fact)}
