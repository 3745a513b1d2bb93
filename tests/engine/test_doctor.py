"""The doctor: readers agree on real sockets, a liar is found out, nothing private is told."""

from __future__ import annotations

import errno
import io
import json
import os
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.confinement import become_nobody, can_filter, forbid_netlink, in_child
from tests.sources.live.namespaces.dwellers import dweller
from twdiag import cli
from twdiag.engine import doctor
from twdiag.engine.doctor import READERS, Check, Health, Reading, compared, differences, examine
from twdiag.errors import SourceRefused
from twdiag.render.doctor import headline, render_json, render_text
from twdiag.sources.live import probes
from twdiag.sources.live.namespaces.entering import entered
from twdiag.sources.live.namespaces.search import find_namespaces
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTS = st.dictionaries(st.sampled_from(list(State)), st.integers(0, 1000))


def text_of(health: Health) -> str:
    out = io.StringIO()
    render_text(health, out)
    return out.getvalue()


def json_of(health: Health) -> str:
    out = io.StringIO()
    render_json(health, out)
    return out.getvalue()


def time_waits() -> socket.socket:
    """Listen, and leave 40 TIME_WAITs."""
    server = socket.create_server(("127.0.0.1", 7120))
    for _ in range(40):
        client = socket.create_connection(("127.0.0.1", 7120))
        served, _ = server.accept()
        served.close()
        client.recv(1)
        client.close()
    return server


def test_all_readers_agree_on_real_sockets() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter")
    with dweller(time_waits) as pid:
        found = find_namespaces().namespaces
        with entered(next(n for n in found if pid in n.pids)):
            health = examine()
    counted = {State.LISTEN: 1, State.TIME_WAIT: 40}
    assert [(r.reader, r.states, r.differs) for r in health.readings] == [
        (reader, counted, ()) for reader in READERS
    ]
    assert health.agree
    assert health.time_wait_seconds is not None
    assert 30 < health.time_wait_seconds <= 60
    assert headline(health) == "All is well: netlink, proc, psutil, pyroute2 count the same sockets"
    checks = {check.key: check.works for check in health.checks}
    assert checks["sock-diag"]
    assert checks["ages"]


@pytest.mark.parametrize("liar", READERS)
def test_a_reader_that_lies_is_found_out(
    liar: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(reader: str) -> Mapping[State, int]:
        return {State.LISTEN: 3, State.TIME_WAIT: 99 if reader == liar else 100}

    monkeypatch.setattr(doctor, "count_states", read)
    assert cli.run(["doctor"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("The readers disagree: ")
    assert liar in out.splitlines()[0]
    assert "<- differs: TIME_WAIT" in out


def test_a_reader_that_breaks_is_no_well_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(reader: str) -> Mapping[State, int]:
        if reader == "psutil":
            raise KeyError("secret-name")
        return {}

    monkeypatch.setattr(doctor, "count_states", read)
    health = examine(read)
    assert not health.agree
    assert headline(health) == "A reader is broken: psutil"
    assert "secret-name" not in text_of(health) + json_of(health)


def test_a_reader_that_is_refused_is_told_and_the_others_are_compared() -> None:
    def read(reader: str) -> Mapping[State, int]:
        if reader == "netlink":
            raise SourceRefused("a netlink socket is refused")
        return {State.LISTEN: 1}

    readings = compared(read)
    assert readings[0] == Reading("netlink", None, "a netlink socket is refused")
    assert [r.differs for r in readings] == [(), (), (), ()]


def test_sockets_that_come_and_go_are_no_disagreement() -> None:
    counts = iter([100, 104, 108, 112, 116, 120])
    readings = compared(lambda _: {State.TIME_WAIT: next(counts)})
    assert not any(reading.differs for reading in readings)


def test_a_difference_that_does_not_last_does_not_count() -> None:
    calls = iter(range(100))

    def read(_: str) -> Mapping[State, int]:
        return {State.LISTEN: 2 if next(calls) == 1 else 1}

    assert not any(reading.differs for reading in compared(read))


@given(COUNTS, COUNTS)
def test_what_did_not_change_has_to_be_the_same(
    counts: dict[State, int], other: dict[State, int]
) -> None:
    assert differences(counts, counts, counts) == ()
    expected = tuple(s for s in State if counts.get(s, 0) != other.get(s, 0))
    assert differences(counts, counts, other) == expected


@given(COUNTS, COUNTS)
def test_either_look_is_right(before: dict[State, int], after: dict[State, int]) -> None:
    assert differences(before, after, before) == ()
    assert differences(before, after, after) == ()


def test_the_json_has_no_name_and_no_address() -> None:
    health = examine()
    told = json.loads(json_of(health))
    assert told["schema"] == "twdiag-doctor/1"
    assert set(told["checks"]) == {check.key for check in health.checks}
    for private in (os.uname().nodename, "127.0.0.1", os.path.expanduser("~"), os.getcwd()):
        assert f'"{private}' not in json_of(health)


def test_nobody_is_told_what_is_refused_and_what_that_costs() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    seen = in_child(lambda: text_of(examine(lambda _: {})) if become_nobody() else "")
    if not seen:
        pytest.skip("this namespace knows no other user")
    assert "no   CAP_SYS_ADMIN\n         not seen: the inside of other network namespaces" in seen
    assert "to get it: run as root" in seen


@can_filter
def test_where_netlink_is_refused_not_all_is_well_and_its_cause_is_told_once() -> None:
    def look() -> str:
        forbid_netlink(errno.EPERM)
        return text_of(examine())

    seen = in_child(look)
    assert seen.startswith("Netlink shows no socket; proc, psutil count the same sockets\n")
    assert seen.count("to get it: sockets by netlink come first: see above") == 4
    assert "Linux 6.8 or later" not in seen


def test_each_check_that_fails_says_what_is_lost_and_what_helps() -> None:
    for check in examine(lambda _: {}).checks:
        assert isinstance(check, Check)
        assert check.costs
        assert check.how


# Parsers of the probes.


@given(st.sampled_from([(100, 10), (250, 4), (1000, 1)]), st.integers(100, 3000))
def test_hertz_is_told_by_the_steps_of_timers(rate: tuple[int, int], first: int) -> None:
    hertz, step = rate
    assert probes.hertz_of([(first + tick) * step for tick in range(60)]) == hertz


@given(st.integers(100, 3000))
def test_three_hundred_hertz_are_told_too(first: int) -> None:
    assert probes.hertz_of([tick * 10 // 3 for tick in range(first, first + 60)]) == 300


@given(st.lists(st.integers(0, 2**32 - 1), max_size=29))
def test_few_timers_tell_no_hertz(timers: list[int]) -> None:
    assert probes.hertz_of(timers) is None


@given(st.text(), st.binary(max_size=200))
def test_nothing_breaks_the_parsers(text: str, raw: bytes) -> None:
    probes.capabilities(text)
    probes.is_filtered(text)
    probes.hidepid(text)
    try:
        rows, _ = probes.split(raw)
    except OSError:
        return
    assert all(len(row) >= 72 for row in rows)


def test_what_proc_says_is_understood() -> None:
    status = "Name:\tx\nCapEff:\t0000000000280000\nSeccomp:\t2\n"
    assert probes.capabilities(status) == {"CAP_SYS_PTRACE", "CAP_SYS_ADMIN"}
    assert probes.capabilities("") is None
    assert probes.is_filtered(status)
    assert not probes.is_filtered("Seccomp:\t0\n")
    line = "22 27 0:21 / /proc rw,relatime - proc proc rw,hidepid={}"
    assert probes.hidepid(line.format("invisible")) == "invisible"
    assert probes.hidepid(line.format("2")) == "2"
    assert probes.hidepid(line.format("off")) is None
