"""The --state file: growth between runs, and every way in which a file can be bad."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.made import LISTEN_8080, snapshot_of
from twdiag.history import files, sample
from twdiag.history import state_file as memory
from twdiag.history.notify import Told
from twdiag.model.conntrack import Conntrack, ConntrackCounters, Snat
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import Socket
from twdiag.sources.live.sockets.seen import census_of_sockets
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Played
    from tests.running import Said
    from twdiag.model.snapshot import Snapshot

NOW = sample.Moment("boot-1", 1000.0, 1_700_000_000.0, 42)


class Clock:
    """The moment that runs of `check` take for now."""

    def __init__(self) -> None:
        self.moment = NOW

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        moment = self.moment
        self.moment = moment._replace(uptime=moment.uptime + seconds, wall=moment.wall + seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only moves when told to."""
    found = Clock()
    monkeypatch.setattr(memory, "moment", lambda: found.moment)
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Where the state is."""
    return str(tmp_path / "state")


def waits(number: int, first: int = 0) -> list[Socket]:
    return [
        Socket(
            State.CLOSE_WAIT, "10.0.0.1", 80, "10.0.0.2", 40_000 + n, inode=900 + n, cookie=n + 1
        )
        for n in range(first, first + number)
    ]


def with_rows(snapshot: Snapshot, rows: list[Socket], **changes: Any) -> Snapshot:
    changes = {"census": census_of_sockets(lambda: rows, {}), "owners": {}} | changes
    return snapshot._replace(**changes)


@pytest.fixture
def idle(played: dict[str, Played]) -> Snapshot:
    """A host without any trouble."""
    return played["idle"].snapshot


class Runs(NamedTuple):
    """Runs of `check --state FILE`, each on what the host looks like by then."""

    idle: Snapshot
    see: Callable[[Snapshot], None]
    check_alone: Callable[..., Said]
    file: str
    clock: Clock

    def check(self, *words: str) -> Said:
        """Run it once more."""
        return self.check_alone("--state", self.file, *words)


@pytest.fixture
def runs(
    idle: Snapshot,
    host: Callable[[Snapshot], None],
    check: Callable[..., Said],
    file: str,
    clock: Clock,
) -> Runs:
    """Runs on a host without any trouble, until it is told to look otherwise."""
    host(idle)
    return Runs(idle, host, check, file, clock)


def test_the_first_run_compares_nothing(runs: Runs) -> None:
    runs.see(with_rows(runs.idle, waits(3)))
    said = runs.check()
    assert said.code == 0
    assert said.perfdata["new_close_wait"] == "U"
    assert said.perfdata["new_listen_overflows"] == "U"
    assert "new_close_wait" not in runs.check_alone().perfdata


def test_growth_is_counted(runs: Runs) -> None:
    runs.see(with_rows(runs.idle, waits(3), counters={"TcpExt.ListenOverflows": 5}))
    runs.check()
    runs.clock.pass_(60)
    runs.see(with_rows(runs.idle, waits(6, first=1), counters={"TcpExt.ListenOverflows": 12}))
    said = runs.check("-w", "new_close_wait=3", "-c", "new_listen_overflows=6")
    assert said.code == 2
    assert said.line.startswith("TWDIAG CRITICAL - new_listen_overflows is 7, above the limit of 6")
    assert said.perfdata["new_close_wait"] == "4;3;;0"
    # The two that were there before have waited for a minute at least.
    assert said.perfdata["close_wait_age"] == "60s;;;0"


def test_syns_that_a_nat_dropped_between_two_runs_are_counted(runs: Runs) -> None:
    snat = Snat("192.0.2.1", "10.0.0.5", 443)
    states = {"ESTABLISHED": 50_000}
    for failed, code in ((7, 1), (7, 1), (12, 2)):
        seen = Conntrack(ConntrackCounters(50_000, failed, failed, 0), 262_144, {snat: states})
        runs.see(runs.idle._replace(counters=seen.counted, conntrack=seen))
        said = runs.check("-v")
        assert said.code == code
        runs.clock.pass_(60)
    assert said.perfdata["new_conntrack_drops"] == "5;;;0"
    assert "5 SYNs got none between the two samples" in said.out


def test_an_overflow_between_two_runs_is_critical(runs: Runs) -> None:
    name = "TcpExt.TCPTimeWaitOverflow"
    runs.see(runs.idle._replace(counters={name: 100}))
    assert runs.check().code == 0
    runs.clock.pass_(60)
    assert runs.check().code == 0
    runs.clock.pass_(60)
    runs.see(runs.idle._replace(counters={name: 123}))
    said = runs.check("-v")
    assert said.code == 2
    assert "23 sockets lost their TIME_WAIT" in said.out
    runs.clock.pass_(60)
    assert runs.check().code == 0


def test_time_to_emfile(runs: Runs) -> None:
    rows = waits(60)

    def holding(fds: int) -> Snapshot:
        owner = Owner(os.getpid(), "leaky", "root", fds, 100)
        return with_rows(runs.idle, rows, owners={row.inode: (owner,) for row in rows})

    runs.see(holding(82))
    runs.check()
    runs.clock.pass_(60)
    runs.see(holding(85))
    said = runs.check("-v", "--select", "fd-limit-near")
    assert "the limit is reached in 5 min" in said.out
    # A process of the same number that began later is another one.
    data = json.loads(Path(runs.file).read_text())
    data["processes"][0][0] -= 1
    Path(runs.file).write_text(json.dumps(data))
    runs.clock.pass_(60)
    runs.see(holding(88))
    assert "limit is reached" not in runs.check("-v").out


def test_a_reboot_is_noticed(runs: Runs) -> None:
    name = "TcpExt.TCPTimeWaitOverflow"
    runs.see(runs.idle._replace(counters={name: 0}))
    runs.check()
    runs.clock.moment = NOW._replace(boot="boot-2", uptime=2000.0)
    runs.see(runs.idle._replace(counters={name: 50}))
    said = runs.check("-v")
    assert said.code == 0
    assert "NOTE: nothing is compared with the last run: the host was started again" in said.out


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"netns": 43}, "another network namespace"),
        ({"uptime": 999.0}, "not in the past"),
        ({"uptime": 1000.0 + 90_000}, "the last run was 25 h ago"),
    ],
)
def test_what_cannot_be_compared(change: dict[str, Any], why: str, runs: Runs) -> None:
    runs.see(runs.idle._replace(counters={"TcpExt.ListenOverflows": 1}))
    runs.check()
    runs.clock.moment = NOW._replace(**change)
    said = runs.check("-v")
    assert why in said.out
    assert said.perfdata["new_listen_overflows"] == "U"


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_step_is_no_age(step: float, runs: Runs) -> None:
    runs.see(with_rows(runs.idle, waits(3)))
    runs.check()
    runs.clock.pass_(60)
    runs.clock.moment = runs.clock.moment._replace(wall=runs.clock.moment.wall + step)
    said = runs.check("-v")
    assert f"the clock was set by {step:+,.0f} s" in said.out
    assert said.perfdata["close_wait_age"] == "60s;;;0"


def test_a_counter_that_fell_is_another_counter(runs: Runs) -> None:
    runs.see(runs.idle._replace(counters={"TcpExt.ListenOverflows": 1000}))
    runs.check()
    runs.clock.pass_(60)
    runs.see(runs.idle._replace(counters={"TcpExt.ListenOverflows": 3}))
    assert runs.check().perfdata["new_listen_overflows"] == "U"


def test_too_many_sockets_are_not_remembered_in_part(
    monkeypatch: pytest.MonkeyPatch, runs: Runs
) -> None:
    monkeypatch.setattr(sample, "MOST_ROWS", 10)
    runs.see(with_rows(runs.idle, waits(11)))
    runs.check()
    runs.clock.pass_(60)
    said = runs.check()
    assert said.perfdata["new_close_wait"] == "U"
    assert json.loads(Path(runs.file).read_text())["rows"] is None


def test_another_source_is_not_compared_socket_by_socket(runs: Runs) -> None:
    runs.see(with_rows(runs.idle, waits(3), source="proc"))
    runs.check()
    runs.clock.pass_(60)
    runs.see(with_rows(runs.idle, waits(3)))
    said = runs.check()
    assert said.perfdata["new_close_wait"] == "U"
    assert said.perfdata["new_listen_overflows"] != "U"


def test_a_full_file_stays_below_its_bound(idle: Snapshot) -> None:
    rows = [
        Socket(
            State.CLOSE_WAIT,
            "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
            65535,
            "2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe",
            65535,
            inode=2**32 - 1,
            cookie=2**64 - 1 - n,
        )
        for n in range(sample.MOST_ROWS)
    ]
    owner = Owner(4_194_304, "\U0001f600" * 15, "u" * 32, 1_000_000, 1_000_000)
    processes = [sample.RememberedOwner(2**40, owner)] * 1000
    data = sample.to_data(with_rows(idle, rows), NOW, processes, "CRITICAL")
    raw = json.dumps(data).encode()
    assert len(raw) <= sample.MOST_BYTES
    found = sample.from_data(json.loads(raw))
    assert found.sockets is not None
    assert len(found.sockets) == sample.MOST_ROWS
    assert len(found.processes) == sample.MOST_OWNERS


FOREIGN = [
    b"{",
    b"null",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"schema": "twdiag-state/1"}',  # with a space, as we never write it
    b'{"schema":"twdiag/1"}',
    b'{"schema":"twdiag-sta',
    b"[" * 100_000,
    b"root:x:0:0:root:/root:/bin/bash\n",
    b"\0",
    b" " * (sample.MOST_BYTES + 1),
]
OURS = b'{"schema":"twdiag-state/'
DAMAGED = [
    OURS,
    OURS + b'1"}',
    OURS + b'2"}',
    OURS + b'1","rows":' + b"[" * 100_000,
    OURS + b'1","a":"\xff"}',
    OURS + b" " * sample.MOST_BYTES,
]


@pytest.mark.parametrize("content", FOREIGN, ids=lambda c: repr(c[:20]))
def test_a_file_of_anything_else_is_never_replaced(
    content: bytes, on: Callable[..., Said], file: str
) -> None:
    Path(file).write_bytes(content)
    said = on("idle", "--state", file)
    assert said.code == 3
    assert "was not written by twdiag" in said.out
    assert "name a file that does not exist yet" in said.out
    assert Path(file).read_bytes() == content
    assert os.listdir(Path(file).parent) == [Path(file).name]  # no lock: passwd.lock means a lot


def test_an_empty_file_is_a_first_run(on: Callable[..., Said], file: str) -> None:
    Path(file).touch()
    said = on("idle", "--state", file, "-v")
    assert (said.code, "NOTE" in said.out) == (0, False)
    assert Path(file).read_bytes().startswith(OURS)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda c: repr(c[:40]))
def test_a_damaged_file_of_ours_is_a_fresh_start(
    content: bytes, on: Callable[..., Said], file: str
) -> None:
    Path(file).write_bytes(content)
    said = on("idle", "--state", file, "-v")
    assert said.code == 0
    assert f"NOTE: the state file {file} is not used and starts afresh" in said.out
    assert "NOTE" not in on("idle", "--state", file, "-v").out


def test_a_truncated_file_is_a_fresh_start(on: Callable[..., Said], file: str) -> None:
    on("close-wait-leak", "--state", file)
    whole = Path(file).read_bytes()
    for length in range(len(OURS), len(whole) - 1, 7):
        Path(file).write_bytes(whole[:length])
        assert on("close-wait-leak", "--state", file).code == 0


@pytest.mark.parametrize(
    "address", ["fe80::1%99999999999", "fe80::1%-1", "fe80::1%", "%", "1.2.3", "::%x", "\0", ""]
)
@pytest.mark.parametrize("end", [1, 3])
def test_an_address_that_is_none_makes_a_file_foreign(
    address: str, end: int, on: Callable[..., Said], file: str
) -> None:
    on("close-wait-leak", "--state", file)
    data = json.loads(Path(file).read_bytes())
    data["rows"][0][end] = address
    Path(file).write_text(json.dumps(data, separators=(",", ":")))
    said = on("close-wait-leak", "--state", file, "-v")
    assert "internal error" not in said.out
    assert said.code == 0


PLACES = ["boot", "uptime", "wall", "netns", "source", "counters", "rows", "processes", "status"]
PLACES += ["told"]
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(place=st.sampled_from(PLACES), value=junk)
def test_any_value_anywhere(place: str, value: object, played: dict[str, Played]) -> None:
    data = sample.to_data(played["close-wait-leak"].snapshot, NOW, (), "OK") | {place: value}
    try:
        found = sample.from_data(data)
    except sample.Foreign:
        return
    now = NOW._replace(uptime=1e6, wall=1e9)
    sample.why_not_comparable(found, now)
    sample.clock_step(found, now)
    snapshot = played["close-wait-leak"].snapshot
    assert sample.earlier_sample(found, now, snapshot, {}).taken_at


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(content=st.binary(max_size=300), at=st.integers(0, 400))
def test_any_bytes(content: bytes, at: int, on: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "any"
    on("close-wait-leak", "--state", str(file))
    whole = file.read_bytes()
    changed = whole[:at] + content + whole[at + len(content) :]
    file.write_bytes(changed)
    said = on("close-wait-leak", "--state", str(file))
    ours = not changed or changed.startswith(OURS)
    assert said.code == (0 if ours else 3)
    assert "internal error" not in said.out
    assert (file.read_bytes() == changed) is not ours
    file.unlink()
    assert not said.err


def test_a_link_is_not_followed(on: Callable[..., Said], file: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    os.symlink(target, file)
    said = on("idle", "--state", file)
    assert said.code == 3
    assert "is not a plain file" in said.out
    assert target.read_text() == "precious"
    os.unlink(file)
    os.symlink(target, f"{file}.lock")
    assert on("idle", "--state", file).code == 3


def test_a_pipe_does_not_hang(on: Callable[..., Said], file: str) -> None:
    os.mkfifo(file)
    assert on("idle", "--state", file).code == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_of_another_user_is_refused(on: Callable[..., Said], file: str) -> None:
    on("idle", "--state", file)
    os.chown(file, 65534, 65534)
    said = on("idle", "--state", file)
    assert said.code == 3
    assert "belongs to another user" in said.out


def test_a_folder_that_is_not_there(on: Callable[..., Said]) -> None:
    said = on("ports-running-out", "--state", "/nonexistent/state")
    assert said.code == 3
    assert "the state file /nonexistent/state cannot be read: No such file" in said.out


def test_a_disk_that_is_full_hides_no_problem(
    monkeypatch: pytest.MonkeyPatch, on: Callable[..., Said], file: str
) -> None:
    def full(path: str, data: bytes, mode: int, what: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    said = on("idle", "--state", file)
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - the state file ")
    assert "No space left on device" in on("idle", "--state", file, "-v").out
    said = on("ports-running-out", "--state", file, "-v")
    assert said.code == 2
    assert "UNKNOWN: the state file" in said.out


def test_the_file_is_private(on: Callable[..., Said], file: str) -> None:
    on("idle", "--state", file)
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert os.stat(f"{file}.lock").st_mode & 0o777 == 0o600


def test_a_locked_file_is_waited_for_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch, on: Callable[..., Said], file: str
) -> None:
    on("idle", "--state", file)
    monkeypatch.setattr(memory, "LOCK_SECONDS", 0.2)
    with open(f"{file}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = time.monotonic()
        said = on("idle", "--state", file)
        assert time.monotonic() - began < 3  # which is how long it waits else
    assert said.code == 3
    assert said.line.startswith("TWDIAG UNKNOWN - another run holds the state file")
    assert on("idle", "--state", file).code == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, on: Callable[..., Said], file: str
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = on("idle", "--state", file)
    assert said.code == 3
    assert f"cannot be locked: {os.strerror(number)}"[:40] in said.out
    assert "name a file on a disk of this host" in said.out


def test_two_runs_at_a_time_take_turns(on: Callable[..., Said], file: str) -> None:
    on("idle", "--state", file)
    lock = os.open(f"{file}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    helper = os.fork()
    if helper == 0:
        time.sleep(0.3)
        os._exit(0)  # the description is shared: the lock goes with its last copy
    os.close(lock)
    assert on("idle", "--state", file).code == 0
    os.waitpid(helper, 0)


WRITER = """
import sys
from twdiag.history import files
path, size = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
for turn in range(10**6):
    files.replace(path, b"%d " % (turn % 10) + b"x" * size + b" %d" % (turn % 10), 0o600)
"""


def test_kill_during_a_write_loses_neither_old_nor_new(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.replace(str(path), b"0 " + b"x" * 50_000 + b" 0", 0o600)
    deadline = time.monotonic() + 4
    for turn in range(12):
        words = [sys.executable, "-c", WRITER, str(path), "50000"]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.002 * turn)
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 50_004
        assert content[:1] == content[-1:]
        if time.monotonic() > deadline:
            break
    files.replace(str(path), b"new", 0o600)
    assert [found.name for found in tmp_path.iterdir()] == ["state"]  # no leftovers


def test_a_failing_write_leaves_the_old_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    for name in ("write", "fsync", "rename"):
        with monkeypatch.context() as patch:

            def fail(*_: object, **__: object) -> None:
                raise OSError(5, "Input/output error")

            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="Input/output"):
                files.replace(str(path), b"new", 0o600)
        assert path.read_bytes() == b"old"
        assert [found.name for found in tmp_path.iterdir()] == ["state"]


def test_notify_on_change(on: Callable[..., Said], file: str) -> None:
    words = ("--state", file, "--notify-on", "change")
    assert on("idle", *words) == (0, "", "")
    assert on("idle", *words) == (0, "", "")
    said = on("ports-running-out", *words)
    assert said.code == 2
    assert said.out.startswith("TWDIAG CRITICAL - ")
    assert "CRITICAL: ports-running-out" in said.out
    assert "NOTE: before, it was OK" in said.out
    assert "|" not in said.out  # a mail is for people
    assert on("ports-running-out", *words) == (2, "", "")
    # Better, but not well: it has to hold for a second run.
    assert on("fd-limit", *words) == (1, "", "")
    said = on("fd-limit", *words)
    assert said.line.startswith("TWDIAG WARNING")
    assert "NOTE: before, it was CRITICAL" in said.out
    assert on("fd-limit", *words) == (1, "", "")
    said = on("idle", *words)
    assert said.line.startswith("TWDIAG OK")
    assert "NOTE: before, it was WARNING" in said.out
    assert on("idle", *words).out == ""


def test_a_status_that_goes_back_and_forth_is_told_once(on: Callable[..., Said], file: str) -> None:
    words = ("--state", file, "--notify-on", "change")
    assert on("fd-limit", *words).line.startswith("TWDIAG WARNING")
    assert on("ports-running-out", *words).line.startswith("TWDIAG CRITICAL")
    for _ in range(3):
        assert on("fd-limit", *words) == (1, "", "")
        assert on("ports-running-out", *words) == (2, "", "")
    assert on("idle", *words).line.startswith("TWDIAG OK")


def test_a_lasting_problem_is_told_again(on: Callable[..., Said], file: str, clock: Clock) -> None:
    words = ("--state", file, "--notify-on", "change", "--again-after", "4h")
    assert on("fd-limit", *words).line.startswith("TWDIAG WARNING")
    for hour in range(1, 10):
        clock.pass_(3600)
        said = on("fd-limit", *words)
        assert bool(said.out) is (hour in (4, 8)), hour
        assert "NOTE: before" not in said.out
    assert on("idle", *words).line.startswith("TWDIAG OK")
    clock.pass_(86_000)
    assert on("idle", *words).out == ""


def test_a_file_of_the_first_edition_is_read(on: Callable[..., Said], file: str) -> None:
    words = ("--state", file, "--notify-on", "change")
    on("fd-limit", *words)
    data = json.loads(Path(file).read_text())
    del data["told"]
    Path(file).write_text(json.dumps(data, separators=(",", ":")))
    assert on("fd-limit", *words) == (1, "", "")


@pytest.mark.parametrize("words", [("--again-after", "4h"), ("--quiet", "--again-after", "4h")])
def test_again_after_needs_notify_on_change(
    words: tuple[str, ...], check: Callable[..., Said]
) -> None:
    said = check(*words)
    assert said.code == 3
    assert "--again-after needs --notify-on change" in said.line


@pytest.mark.parametrize("time", ["", "4x", "0", "0h", "-1h", "1.5h", "9999999d", "h"])
def test_again_after_wants_a_time(time: str, check: Callable[..., Said], file: str) -> None:
    said = check("--state", file, "--notify-on", "change", "--again-after", time)
    assert said.code == 3
    assert f"--again-after: {time!r} is not a time" in said.line
    assert not Path(file).exists()


def test_the_first_run_speaks_of_a_problem(on: Callable[..., Said], file: str) -> None:
    words = ("--state", file, "--notify-on", "change")
    assert on("ports-running-out", *words).line.startswith("TWDIAG CRITICAL")


def test_a_check_that_cannot_look_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
    on: Callable[..., Said],
    check: Callable[..., Said],
    file: str,
) -> None:
    from twdiag import sources
    from twdiag.errors import SourceRefused

    words = ("--state", file, "--notify-on", "change")
    on("idle", *words)

    def refuse(source: str) -> None:
        raise SourceRefused("no")

    with monkeypatch.context() as patch:
        patch.setattr(sources, "collect", refuse)
        assert check(*words).line == "TWDIAG UNKNOWN - no"
        assert check(*words) == (3, "", "")
        os.unlink(file)
        assert check(*words).code == 3
    assert "nothing is compared with the last run: the last run could not look" in (
        on("idle", "--state", file, "-v").out
    )


def test_notify_on_change_needs_a_state(check: Callable[..., Said]) -> None:
    said = check("--notify-on", "change")
    assert said.code == 3
    assert "--notify-on change needs --state FILE" in said.line


def test_real_runs_compare(file: str) -> None:
    from tests.running import twdiag

    assert twdiag("check", "--state", file).code in (0, 1, 2)
    said = twdiag("check", "--state", file, "-v")
    assert "NOTE" not in said.out
    assert said.perfdata["new_close_wait"] != "U"


def test_the_next_run_knows_how_many_descriptors_a_crowded_process_had(tmp_path: Path) -> None:
    path, me = str(tmp_path / "state"), os.getpid()
    then = snapshot_of(LISTEN_8080, crowded=(Owner(me, "pytest", "root", 600, 1024),))
    with memory.StateFile(path) as kept:
        kept.remember(then, "OK", Told("OK", 0.0))
    with memory.StateFile(path) as kept:
        earlier = kept.earlier(snapshot_of(LISTEN_8080))
    assert earlier is not None
    assert [(o.pid, o.fds) for group in earlier.owners.values() for o in group] == [(me, 600)]
