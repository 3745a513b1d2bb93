"""What /proc says of a thread, read from text: real lines, and anything at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.model.waits import Act, EpollWatch
from twdiag.sources.live.processes.threads import (
    act_of_channel,
    act_of_state,
    is_vfork,
    parse_cpu_time,
    parse_epoll,
    parse_numbers,
    parse_status,
    parse_watched,
    unescape,
)

STATUS = (
    b"Name:\tpy\\nthon\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t2860\nTracerPid:\t0\n"
    b"Uid:\t33\t33\t33\t33\nNSpid:\t2860\t7\nvoluntary_ctxt_switches:\t29\n"
    b"nonvoluntary_ctxt_switches:\t5\n"
)


def test_a_status_file() -> None:
    status = parse_status(STATUS)
    assert status is not None
    assert status == ("py\nthon", "S", 0, 33, 29, 5, 7)


def test_the_time_on_a_cpu() -> None:
    assert parse_cpu_time(b"1234567890 51964 1\n") == 1_234_567_890
    assert parse_cpu_time(b"") is None


@given(st.binary(max_size=60))
def test_any_time_on_a_cpu(data: bytes) -> None:
    found = parse_cpu_time(data)
    assert found is None or found >= 0


def test_a_status_without_a_state_is_of_a_thread_that_is_gone() -> None:
    assert parse_status(b"Name:\tx\n") is None
    assert parse_status(b"") is None


def test_a_name_cannot_pretend_to_be_another_line() -> None:
    forged = STATUS.replace(b"py\\nthon", b"x\\nState:\\tT")
    assert parse_status(forged)[1] == "S"  # type: ignore[index]


@given(st.binary(max_size=400))
def test_any_status(data: bytes) -> None:
    status = parse_status(data)
    assert status is None or len(status.state) == 1


def test_a_container_has_numbers_of_its_own() -> None:
    assert parse_numbers(STATUS) == (2860, 7)
    assert parse_numbers(b"State:\tS\n") == ()


@given(st.binary(max_size=400))
def test_any_numbers(data: bytes) -> None:
    assert all(number >= 0 for number in parse_numbers(data))


@given(st.binary(max_size=15))
def test_names_survive_the_kernels_escapes(name: bytes) -> None:
    written = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    assert unescape(written) == name.decode("utf-8", "surrogateescape")


EPOLL = (
    b"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n"
    b"tfd:        5 events: c0000000 data:                5  pos:0 ino:1d605b sdev:9\n"
    b"tfd:        3 events:       19 data:                3  pos:0 ino:1d6059 sdev:9\n"
)


def test_an_epoll_set() -> None:
    size, watches = parse_epoll(EPOLL, {0x1D605B, 0x1D6059})
    assert size == 2
    assert watches == (EpollWatch(5, 0x1D605B, 0xC0000000), EpollWatch(3, 0x1D6059, 0x19))
    assert [watch.armed for watch in watches] == [False, True]
    assert [watch.edge for watch in watches] == [True, False]
    assert parse_epoll(EPOLL, {0x1D6059}) == (2, watches[1:])


def test_what_an_epoll_set_watches() -> None:
    old = b"pos: 0\ntfd:        5 events:       19 data:                5\n"
    assert len(parse_watched(EPOLL)) == parse_epoll(EPOLL, ())[0] == 2
    assert parse_watched(old) == (5,)


@given(st.binary(max_size=200))
def test_any_set_watches_as_many_as_it_has(data: bytes) -> None:
    assert len(parse_watched(data)) == parse_epoll(data, {1})[0]


def test_an_old_kernel_names_no_inodes_in_an_epoll_set() -> None:
    old = b"tfd:        5 events:       19 data:                5\n"
    assert parse_epoll(old, {7}) == (1, (EpollWatch(5, None, 0x19),))


@given(st.binary(max_size=300))
def test_any_epoll_file(data: bytes) -> None:
    size, watches = parse_epoll(data, {1})
    assert len(watches) <= size


def test_channels_and_states() -> None:
    assert act_of_channel("poll_schedule_timeout.constprop.0") is Act.POLL
    assert act_of_channel("something_new") is Act.OTHER
    assert is_vfork("kernel_clone.isra.0")
    assert not is_vfork("rpc_wait_bit_killable")
    assert act_of_state("t") is Act.TRACED
    assert act_of_state("S") is None
