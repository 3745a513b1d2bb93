"""Frames of made hosts on screens of some sizes: `python -m tests.render` writes them anew."""

from __future__ import annotations

import functools
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.made import (
    SYSCTLS,
    aged,
    close_wait,
    closed_first,
    listening,
    report_of,
    snapshot_of,
    time_wait,
)
from twdiag.analysis.closers import EndsCounter
from twdiag.analysis.view import View
from twdiag.engine.folding import ScreenMemory, fold
from twdiag.engine.frames import Cost, Following, Sight, related
from twdiag.model.closes import Close, ClosedBy, Closer, How, Opened
from twdiag.model.snapshot import Gap, Owner
from twdiag.render.live import live
from twdiag.render.live_keys import About, Choice, entry_at, press, selected
from twdiag.render.live_text import render_block
from twdiag.render.pieces import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twdiag.engine.frames import Frame
    from twdiag.model.snapshot import Snapshot

FOLDER: Final = Path(__file__).parent / "frames"
UNTRACED: Final = Following(
    "multicast", "tracing needs root, so no process is named (run as root)", 1.0, 0
)
TRACED: Final = Following("tracefs+multicast", "", 1.0, 0)


_FEW_PORTS: Final = {**SYSCTLS, "net.ipv4.ip_local_port_range": "32768 33767"}


def frame_of(sights: Iterable[Sight]) -> Frame:
    """Return the last frame of some looks."""
    memory, frame = ScreenMemory(), None
    for sight in sights:
        memory, frame = fold(memory, sight)
    assert frame is not None
    return frame


def sight(
    at: float,
    snapshot: Snapshot,
    closes: Mapping[Close, int] | None = None,
    following: Following = UNTRACED,
    cost: Cost = Cost(1.0, 0.008),  # noqa: B008
) -> Sight:
    """Return a look at a snapshot, and connections that ended in the second before."""
    counter = EndsCounter()
    for close, times in (closes or {}).items():
        for _ in range(times):
            counter.add(close)
    snapshot = snapshot._replace(taken_at=snapshot.taken_at + at)
    ends = counter.take(1.0)
    return Sight(at, report_of(snapshot), View(snapshot), ends, following, cost)


def end(
    name: str, pid: int, first: ClosedBy, opened: Opened, port: int, how: How = How.FIN
) -> Close:
    """Return a connection's end that a process closed."""
    remote, remote_port = ("10.0.0.5", port) if opened is Opened.OUT else ("10.1.0.1", 40000)
    local_port = port if opened is Opened.IN else 40000
    closer = Closer(pid, pid, name, name)
    return Close(
        0.0, 2, "10.0.0.1", local_port, remote, remote_port, first, how, opened=opened,
        closer=closer,
    )  # fmt: skip


def _busy(at: int, name: str = "java") -> Snapshot:
    """Return a host with everything, some seconds on."""
    sockets = [
        listening(443, inode=7),
        listening(8080, inode=8, recv_q=60, send_q=128),
        *closed_first(400 + at, port=443),
        *time_wait(530),
        *aged(close_wait(60 + at), 120 + at),
    ]
    leaking = Owner(812, name, "app", 940 + at, 1024)
    owners = {100 + n: (leaking,) for n in range(60 + at)}
    owners |= {7: (Owner(915, "nginx", "www"),), 8: (leaking,)}
    counters = {
        "TcpExt.TW": 1000 + 250 * at,
        "TcpExt.TCPTimeWaitOverflow": 0,
        "TcpExt.ListenOverflows": 3 * at,
        "TcpExt.TCPAbortOnClose": at,
        "Tcp.ActiveOpens": 240 * at,
        "Tcp.PassiveOpens": 12 * at,
        "Tcp.AttemptFails": 0,
        "Tcp.OutRsts": 5 * at // 2,
    }
    return snapshot_of(
        *sockets, owners=owners, crowded=(leaking,), counters=counters, sysctls=_FEW_PORTS
    )


CLOSES: Final = {
    end("nginx", 915, ClosedBy.HERE, Opened.IN, 443): 9,
    end("nginx", 915, ClosedBy.PEER, Opened.IN, 443): 3,
    end("python", 77, ClosedBy.HERE, Opened.OUT, 5432): 240,
    end("java", 812, ClosedBy.HERE, Opened.IN, 8080, How.RST): 1,
}


@functools.cache
def idle() -> Frame:
    """A host on which nothing happens."""
    return frame_of(sight(at, snapshot_of(counters={"TcpExt.TW": 0})) for at in (0, 5))


@functools.cache
def first() -> Frame:
    """The first frame, which knows no growth."""
    return frame_of([sight(0, _busy(0), cost=Cost(1.0))])


@functools.cache
def busy() -> Frame:
    """Everything at once, with rights."""
    return frame_of(sight(at, _busy(at), CLOSES, TRACED) for at in (0, 5, 10))


@functools.cache
def untraced() -> Frame:
    """The same without rights: no process is named."""
    plain = {close._replace(closer=None): n for close, n in CLOSES.items()}
    return frame_of(sight(at, _busy(at), plain) for at in (0, 5, 10))


@functools.cache
def gone() -> Frame:
    """A host that has got well."""
    gaps = (Gap("owners", "the owners of 3 sockets are not visible", "run as root", True),)
    looks = [sight(0, _busy(0), CLOSES, TRACED), sight(5, _busy(5), CLOSES, TRACED)]
    return frame_of([*looks, sight(72, snapshot_of(gaps=gaps), None, TRACED)])


@functools.cache
def hostile() -> Frame:
    """Names that act on a terminal, and wide ones, if they are let to."""
    bad = "\x1b[2J\x07evil\u202e"
    closes = {end("数据库服务器进程名称", 5, ClosedBy.HERE, Opened.OUT, 5432): 3}
    return frame_of(sight(at, _busy(at, bad), closes, TRACED) for at in (0, 5))


@functools.cache
def slow() -> Frame:
    """A host on which looks cost so much that they are slowed, and ends are sampled."""
    following = Following("tracefs+multicast", "", 0.02, 1234)
    cost = Cost(3.4, 0.05, True)
    return frame_of(sight(at, _busy(at), CLOSES, following, cost) for at in (0, 3))


class Made(NamedTuple):
    """A frame, the keys that were pressed, and the screen that it is shown on."""

    frame: Callable[[], Frame]
    keys: str = ""
    look: Look = Look(width=80, height=24)


FRAMES: Final = {
    "idle": Made(idle),
    "first": Made(first),
    "busy": Made(busy),
    "busy-60x15": Made(busy, "", Look(width=60, height=15)),
    "busy-200x50": Made(busy, "", Look(width=200, height=50)),
    "busy-ascii": Made(busy, "", Look(width=100, height=30, unicode=False)),
    "busy-sorted": Made(busy, "ssjjj", Look(width=120, height=30)),
    "untraced": Made(untraced),
    "gone": Made(gone),
    "hostile": Made(hostile, "", Look(width=100, height=30)),
    "slow": Made(slow),
    "paused": Made(busy, " "),
    "typing": Made(busy, "/10.0"),
    "filtered": Made(busy, "/10.0\r"),
    "nothing-left": Made(busy, "/nothing like it\r"),
    "help": Made(busy, "?"),
    "finding": Made(busy, "\r"),
    "closer": Made(busy, "jjjjjjjjjj\r"),
}
BLOCKS: Final = {"block-busy": busy, "block-idle": idle, "block-untraced": untraced}


def shown(made: Made) -> str:
    """Return a screen as text."""
    frame, choice = made.frame(), Choice()
    for key in made.keys:
        choice, deed = press(choice, key, frame)
        place = selected(frame, choice)
        if deed == "explain" and place is not None:
            entry = entry_at(frame, place)
            assert entry is not None
            found = tuple(related(frame, place[0], entry.row))
            choice = replace(choice, about=About(place[0], entry.row, found))
    return "".join(text + "\n" for text, _ in live(frame, choice, made.look))


def block(frame: Callable[[], Frame]) -> str:
    """Return a frame as it is written where there is no terminal."""
    out = io.StringIO()
    render_block(frame(), out)
    return out.getvalue()


def texts() -> dict[str, str]:
    """Return all of them by name."""
    found = {name: shown(made) for name, made in FRAMES.items()}
    return found | {name: block(frame) for name, frame in BLOCKS.items()}


def write_all() -> None:
    """Write every frame anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / f"{name}.txt").write_text(text, "utf-8")
