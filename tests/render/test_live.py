"""The live screen as text: whole frames, and what holds on every terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import aged, close_wait, held, snapshot_of
from tests.render import made_frames
from tests.render.made_frames import CLOSES, FOLDER, TRACED, block, frame_of, sight
from twdiag.model.findings import Severity
from twdiag.model.namespaces import Namespace
from twdiag.model.snapshot import Gap, Owner
from twdiag.render.cells import width_of
from twdiag.render.live import live, shared_out
from twdiag.render.live_keys import About, Choice, press, selected
from twdiag.render.pieces import Look

TEXTS = made_frames.texts()
BUSY, HOSTILE, GONE = made_frames.busy(), made_frames.hostile(), made_frames.gone()


@pytest.mark.parametrize("name", TEXTS)
def test_the_screen_is_as_it_was(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert TEXTS[name] == expected, "if it is better so: python -m tests.render"


def test_no_screen_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(TEXTS)


SIZES = st.tuples(st.integers(20, 250), st.integers(2, 80))
KEYS = st.text("jkgGs/ r?\rq\x1b\x7fxあ", max_size=25)


@given(SIZES, KEYS, st.sampled_from(["busy", "hostile", "gone"]), st.booleans())
def test_no_line_is_wider_and_no_screen_higher_than_the_terminal(
    size: tuple[int, int], keys: str, host: str, unicode: bool
) -> None:
    frame = {"busy": BUSY, "hostile": HOSTILE, "gone": GONE}[host]
    choice, look = Choice(), Look(width=size[0], height=size[1], unicode=unicode)
    for key in keys:
        choice, _ = press(choice, key, frame)
    lines = live(frame, choice, look)
    assert len(lines) == size[1]
    for text, _ in lines:
        assert width_of(text) <= size[0]
        assert all(c.isprintable() or c == "\u00a0" for c in text)
        assert unicode or text.isascii()


@given(SIZES, st.text("jkG", max_size=30))
def test_the_selected_row_is_always_on_the_screen(size: tuple[int, int], keys: str) -> None:
    choice, look = Choice(), Look(width=size[0], height=max(12, size[1]))
    for key in keys:
        choice, _ = press(choice, key, BUSY)
    assert selected(BUSY, choice) is not None
    assert sum(text.startswith("> ") for text, _ in live(BUSY, choice, look)) == 1


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 100)), st.integers(0, 60))
def test_room_is_shared_and_none_is_wasted(wanted: dict[str, int], room: int) -> None:
    given_out = shared_out(wanted, room, None)
    used = sum(1 + number for number in given_out.values())
    assert used <= room
    assert all(number <= wanted[part] for part, number in given_out.items())
    if len(given_out) == len(wanted):
        assert used == min(room, sum(1 + number for number in wanted.values()))


def test_the_worst_and_the_gone_are_told_apart_by_style() -> None:
    lines = live(BUSY, Choice(), Look(100, height=40))
    (style,) = {style for text, style in lines if text.startswith("> WARNING")}
    assert style == "bold yellow reverse"
    gone = [style for text, style in live(GONE, Choice(), Look(100, height=40)) if "gone " in text]
    assert len(gone) > 3
    assert all(style.startswith("dim") for style in gone)


def test_a_paused_screen_says_so_where_no_one_overlooks_it() -> None:
    (head, style), *_ = live(BUSY, Choice(paused=True), Look(80, height=24))
    assert "PAUSED" in head
    assert "reverse" in style


def test_without_rights_the_screen_says_what_would_name_the_processes() -> None:
    lines = live(made_frames.untraced(), Choice(help=True), Look(80, height=40))
    assert "run as root" in " ".join(" ".join(text for text, _ in lines).split())


def test_what_was_not_seen_points_to_all_of_it_where_the_line_is_cut() -> None:
    gap = Gap("netns", "3 other network namespaces (containers?) were not looked at", "twdiag -a")
    frame = frame_of([sight(0, snapshot_of(gaps=(gap,)))])
    wide, narrow = (live(frame, Choice(), Look(width, height=24))[-2][0] for width in (90, 60))
    assert wide.endswith("looked at (twdiag -a)")
    assert narrow == " Not seen: 3 other network namespaces (contai...  ? says all"


def about(part: str, namespace: Namespace | None = None, **changes: object) -> str:
    """Return the page of the first row of a part."""
    row = BUSY.parts[part][0].row._replace(**changes)
    choice = Choice(about=About(part, row, (), namespace))
    return "\n".join(text.strip() for text, _ in live(BUSY, choice, Look(100, height=60)))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("nginx", "nginx"),
        ("a b; reboot", "'a b; reboot'"),
        ("$(reboot)", "'$(reboot)'"),
        ("\x1b[2Jx", "915"),
    ],
)
def test_a_command_to_paste_holds_no_other_command(name: str, word: str) -> None:
    page = about("processes", name=name, pids=(915,))
    assert f"twdiag trace --process {word}\n" in page


def test_the_commands_of_a_row_look_into_the_namespace_that_is_watched() -> None:
    pod = Namespace("pod", 4026532000, pids=(4711,))
    assert "nsenter -t 4711 -n ss -tan" in about("closers", pod)
    assert "twdiag trace --process python --netns 4711" in about("processes", pod)
    assert "nsenter -t 4711 -n ss -tanpo state close-wait | grep pid=812," in about("leaks", pod)
    assert "now        twdiag trace --process python\n" in about("processes")


def test_a_name_that_ascii_makes_longer_leaves_room_for_the_numbers() -> None:
    lines = [text for text, _ in live(HOSTILE, Choice(), Look(80, height=30, unicode=False))]
    row = next(line for line in lines if "\\u6570" in line)
    assert row.split()[-3:] == ["3.0", "0", "0"]


def test_growth_in_less_than_a_second_is_not_told() -> None:
    looks = [sight(at, snapshot_of(*close_wait(number))) for at, number in ((0, 3), (0.3, 4))]
    assert "CLOSE_WAIT 4" in live(frame_of(looks), Choice(), Look(80, height=24))[1][0]
    assert "(+" not in live(frame_of(looks), Choice(), Look(80, height=24))[1][0]


@pytest.mark.parametrize("text", ["", "10.0", "a filter of forty characters, more or less"])
@pytest.mark.parametrize("size", [(30, 6), (40, 10), (60, 24), (80, 24)])
def test_the_ways_out_are_on_every_screen(size: tuple[int, int], text: str) -> None:
    foot = live(BUSY, Choice(filter=text), Look(size[0], height=size[1]))[-1][0]
    assert "q quit" in foot
    assert foot.endswith("? help")
    assert ("Esc " in foot) is bool(text)


def test_a_filter_does_not_make_a_host_look_well() -> None:
    lines = [t for t, _ in live(BUSY, Choice(filter="no such row"), Look(80, height=24))]
    assert not any("nothing wrong" in line for line in lines)
    assert lines[0].startswith("WARNING")


def test_a_block_has_a_line_for_each_row_and_is_never_cut() -> None:
    lines = block(made_frames.hostile).splitlines()
    assert [line for line in lines if "..." in line] == []
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("finding ") for line in lines) == len(HOSTILE.findings)


NAMES = st.text(max_size=30) | st.binary(max_size=15).map(
    lambda b: b.decode("utf-8", "surrogateescape")
)


@given(NAMES)
def test_a_name_cannot_act_on_the_terminal(name: str) -> None:
    owners = {100 + n: (Owner(812, name, name, 90, 1024),) for n in range(60)}
    snapshot = snapshot_of(*aged(close_wait(60), 120), owners=owners)
    closes = {
        close._replace(closer=close.closer and close.closer._replace(name=name)): 1
        for close in CLOSES
    }
    frame = frame_of([sight(0, snapshot, closes, TRACED)])
    for choice in (Choice(), Choice(help=True)):
        for text, _ in live(frame, choice, Look(120, height=40)):
            assert all(c.isprintable() or c == "\u00a0" for c in text)


def test_a_status_is_that_of_what_is_there_now() -> None:
    well = frame_of(
        [
            sight(0, snapshot_of(*aged(close_wait(70), 120), owners=held(70, 90, 1024))),
            sight(9, snapshot_of()),
        ]
    )
    assert well.report.status is Severity.OK
    assert live(well, Choice(), Look(80, height=24))[0][0].startswith("OK ")
    assert replace(well).findings


@pytest.mark.parametrize("width", [60, 66, 72, 80, 120])
def test_a_blank_stands_between_two_titles_of_rates(width: int) -> None:
    lines = [text for text, _ in live(BUSY, Choice(), Look(width=width, height=24))]
    titles = next(text for text in lines if text.startswith(" PER SECOND"))
    assert "..." not in titles
    known = {"OUT", "IN", "FAILED", "RST", "ABORTED", "DROPPED", "OPENED", "SENT", "PER", "SECOND"}
    assert set(titles.split()) <= known
