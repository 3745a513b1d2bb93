"""Sockets as lines: whole in a pipe, within the terminal, and inert wherever they go."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.row import Age, SocketSide
from twdiag.engine.socket_rows import SocketRow
from twdiag.model.namespaces import Container
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import TIMER_TIME_WAIT, Socket
from twdiag.render.sockets import COLUMNS, CsvLines, SocketJsonLines, SocketTextLines, row_json
from twdiag.tcp import State

JAVA: Final = (Owner(812, "java", "app"),)
NGINX: Final = tuple(Owner(pid, "nginx: worker process", "www-data") for pid in (900, 901, 902))
WEB: Final = Container("docker", "ab" * 32, "web_1")
UNIT: Final = Container("systemd", "app.service", "app")


def row(
    state: State, local: tuple[str, int], remote: tuple[str, int], side: SocketSide, **changes: Any
) -> SocketRow:
    fields = {name: changes.pop(name) for name in list(changes) if name in Socket._fields}
    one = Socket(state, *local, *remote, **fields)
    first = {State.CLOSE_WAIT: "peer", State.TIME_WAIT: "here"}.get(state)
    made = SocketRow(one, side, first, Age(), None, one.send_q, (), None, "host")
    return made._replace(**changes)


HERE: Final = ("10.0.0.1", 8080)
ROWS: Final = (
    row(
        State.LISTEN,
        ("0.0.0.0", 8080),
        ("0.0.0.0", 0),
        SocketSide.LISTENER,
        recv_q=3,
        send_q=511,
        owners=NGINX,
        inode=7,
    ),
    row(
        State.CLOSE_WAIT,
        HERE,
        ("10.0.0.9", 51234),
        SocketSide.SERVER,
        age=Age(12.3, 12.9),
        recv_q=101,
        owners=JAVA,
        container=WEB,
        inode=8,
        uid=33,
    ),
    row(
        State.TIME_WAIT,
        ("10.0.0.1", 40000),
        ("192.168.100.200", 65432),
        SocketSide.CLIENT,
        age=Age(18, 18),
        left=42.0,
        timer=TIMER_TIME_WAIT,
    ),
    row(State.ESTABLISHED, HERE, ("10.0.0.9", 51235), SocketSide.SERVER, recv_q=18),
    row(
        State.ESTABLISHED,
        ("2001:db8:85a3::8a2e:370:7334", 443),
        ("2001:db8::1", 50000),
        SocketSide.SERVER,
        owners=None,
        inode=9,
    ),
    row(
        State.CLOSE,
        ("127.0.0.1", 7001),
        ("0.0.0.0", 0),
        SocketSide.BOUND,
        bound=True,
        owners=JAVA,
        container=UNIT,
        inode=10,
    ),
)


def text(width: int | None, *rows: SocketRow, several: bool = False) -> str:
    out = io.StringIO()
    lines = SocketTextLines(out, width, several=several)
    lines.head()
    for one in rows or ROWS:
        lines.row(one)
    return "\n" + out.getvalue()


def test_sixty_columns() -> None:
    assert text(60) == (
        """
STATE      ROLE   FIRST   AGE LEFT RECV-Q PROCESS
    PORT, REMOTE
LISTEN     -      -         -    -      3 nginx~/900+2
    0.0.0.0:8080
CLOSE_WAIT server peer    12s    -    101 java/812
    :8080 <- 10.0.0.9:51234  in web_1
TIME_WAIT  client here    18s  42s      0 -
    :40000 -> 192.168.100.200:65432
ESTAB      server -         -    -     18 not accepted
    :8080 <- 10.0.0.9:51235
ESTAB      server -         -    -      0 ?
    :443 <- [2001:db8::1]:50000
BOUND      -      -         -    -      0 java/812
    127.0.0.1:7001
"""
    )


def test_eighty_columns() -> None:
    assert text(80) == (
        """
STATE      ROLE   FIRST   AGE LEFT RECV-Q PROCESS      PORT, REMOTE
LISTEN     -      -         -    -      3 nginx~/900+2 0.0.0.0:8080
CLOSE_WAIT server peer    12s    -    101 java/812
    :8080 <- 10.0.0.9:51234  in web_1
TIME_WAIT  client here    18s  42s      0 -
    :40000 -> 192.168.100.200:65432
ESTAB      server -         -    -     18 not accepted :8080 <- 10.0.0.9:51235
ESTAB      server -         -    -      0 ?
    :443 <- [2001:db8::1]:50000
BOUND      -      -         -    -      0 java/812     127.0.0.1:7001
"""
    )


def test_two_hundred_columns() -> None:
    assert text(200) == (
        """
STATE       ROLE   FIRST    AGE LEFT  RECV-Q  SEND-Q LOCAL                                           REMOTE                                          PROCESS             CONTAINER
LISTEN      -      -          -    -       3     511 0.0.0.0:8080                                    -                                               nginx: worke~/900+2
CLOSE_WAIT  server peer     12s    -     101       0 10.0.0.1:8080                                   10.0.0.9:51234                                  java/812            web_1
TIME_WAIT   client here     18s  42s       0       0 10.0.0.1:40000                                  192.168.100.200:65432                           -
ESTABLISHED server -          -    -      18       0 10.0.0.1:8080                                   10.0.0.9:51235                                  not accepted
ESTABLISHED server -          -    -       0       0 [2001:db8:85a3::8a2e:370:7334]:443              [2001:db8::1]:50000                             ?
BOUND       -      -          -    -       0       0 127.0.0.1:7001                                  -                                               java/812
"""  # noqa: E501
    )


def test_a_pipe_gets_whole_values() -> None:
    lines = text(None).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert "nginx: worker process/900+2" in lines[2]


def test_several_namespaces_are_named() -> None:
    there = ROWS[1]._replace(netns="blue")
    assert text(200, there, several=True).rstrip().endswith(" java/812            blue web_1")
    assert "  in blue web_1\n" in text(80, there, several=True)
    contained = there._replace(netns="web_1")  # a namespace has the name of its container
    assert text(200, contained, several=True).rstrip().endswith(" java/812            web_1")
    assert "NETNS, CONTAINER" in text(None, there, several=True)


@pytest.mark.parametrize(
    ("age", "left", "said"),
    [
        (Age(None, None), None, "- -"),
        (Age(0, 0), 60.0, "0s 60s"),
        (Age(12, 40), None, ">12s -"),
        (Age(12, None), None, ">12s -"),
        (Age(None, 40), None, "<40s -"),
        (Age(600, 600), None, "10m -"),
        (Age(90_000, 90_000), None, "25h -"),
        (Age(1e7, 1e7), None, "116d -"),
    ],
)
def test_ages_are_short(age: Age, left: float | None, said: str) -> None:
    shown = text(80, ROWS[1]._replace(age=age, left=left, container=None)).splitlines()[2]
    assert " ".join(shown.split()[3:5]) == said
    assert len(shown) <= 80


def test_json_has_all_and_null_for_what_is_not_there() -> None:
    assert row_json(ROWS[1]) == {
        "netns": "host",
        "state": "CLOSE_WAIT",
        "role": "server",
        "closed_first": "peer",
        "local": {"address": "10.0.0.1", "port": 8080},
        "remote": {"address": "10.0.0.9", "port": 51234},
        "age_min_s": 12.3,
        "age_max_s": 12.9,
        "left_s": None,
        "recv_q": 101,
        "send_q": 0,
        "retransmissions": 0,
        "uid": 33,
        "inode": 8,
        "queued": False,
        "processes": [{"pid": 812, "name": "java", "user": "app"}],
        "container": {"runtime": "docker", "id": "ab" * 32, "name": "web_1"},
        "unit": None,
        "mptcp": False,
    }
    listener, _, closed, queued, unseen, bound = map(row_json, ROWS)
    assert listener["remote"] is None
    assert len(listener["processes"]) == 3
    assert (closed["uid"], closed["inode"], closed["processes"]) == (None, None, [])
    assert (queued["queued"], unseen["queued"]) == (True, False)
    assert unseen["processes"] is None
    assert (bound["state"], bound["role"], bound["unit"]) == ("BOUND", "bound", "app.service")
    assert row_json(ROWS[0]._replace(send_q=None))["send_q"] is None


def test_json_is_a_line_for_each_row() -> None:
    out = io.StringIO()
    lines = SocketJsonLines(out)
    lines.head()
    for one in ROWS:
        lines.row(one)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == list(map(row_json, ROWS))


def as_csv(*rows: SocketRow) -> list[dict[str, str]]:
    out = io.StringIO()
    lines = CsvLines(out)
    lines.head()
    for one in rows:
        lines.row(one)
    assert "\r" not in out.getvalue()
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def test_csv_has_what_json_has() -> None:
    for one, cells in zip(ROWS, as_csv(*ROWS), strict=True):
        told = row_json(one)
        assert tuple(cells) == COLUMNS
        for name in ("state", "role", "closed_first", "age_min_s", "left_s", "recv_q", "inode"):
            assert cells[name] == ("" if told[name] is None else str(told[name])), name
        assert cells["queued"] == str(told["queued"]).lower()
        remote = told["remote"] or {"address": "", "port": ""}
        assert (cells["remote_address"], cells["remote_port"]) == (
            remote["address"],
            str(remote["port"]),
        )
    assert as_csv(ROWS[0])[0]["pids"] == "900;901;902"
    assert as_csv(ROWS[4])[0]["pids"] == ""


EVIL: Final = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\x1b[31m\n", 'a,"b', "\u202e")


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_no_formula_and_acts_on_no_terminal(name: str) -> None:
    one = ROWS[1]._replace(
        owners=(Owner(1, name, name),), container=Container("docker", "1", name), netns=name
    )
    (cells,) = as_csv(one)
    for column in ("netns", "processes", "users", "container"):
        assert cells[column][:1] not in ("=", "+", "-", "@", "\t", "\r")
        assert cells[column].isprintable()
    out = io.StringIO()
    SocketJsonLines(out).row(one)
    told = json.loads(out.getvalue())
    for said in (told["netns"], told["processes"][0]["name"], told["container"]["name"]):
        assert said.isprintable()
    for width in (60, 80, 200, None):
        shown = text(width, one, several=True).replace("\n", "")
        assert shown.isprintable()


OWNERS = st.none() | st.lists(
    st.builds(Owner, st.integers(1, 4_194_304), st.text(max_size=64), st.just("root")), max_size=3
).map(tuple)
ADDRESSES = st.ip_addresses().map(str)
ANY_ROW = st.builds(
    lambda state, local, remote, ports, side, age, left, queue, owners: row(
        state,
        (local, ports[0]),
        (remote, ports[1]),
        side,
        age=Age(age, age),
        left=left,
        recv_q=queue,
        owners=owners,
    ),
    st.sampled_from(list(State)),
    ADDRESSES,
    ADDRESSES,
    st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    st.sampled_from(list(SocketSide)),
    st.none() | st.floats(0, 1e8),
    st.none() | st.floats(0, 1e3),
    st.integers(0, 999_999),
    OWNERS,
)


@given(ANY_ROW, st.sampled_from([60, 80, 100, 119, 120, 200]))
def test_no_line_is_longer_than_the_terminal(one: SocketRow, width: int) -> None:
    # An IPv6 listener with both ends cannot be longer than 4 + 47 + 4 + 47 on a line of its own.
    assert max(map(len, text(width, one).splitlines())) <= max(width, 62 if width < 120 else width)
