"""The model and the pages as JSON, schema "twdiag-explain/1"; written by hand, key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twdiag.explain.page import (
    Code,
    Command,
    Drawing,
    Heading,
    Item,
    Page,
    PageKind,
    PageTable,
    Term,
    Text,
)
from twdiag.explain.stories import find_story
from twdiag.explain.story import played
from twdiag.tcp import TIME_WAIT_SECONDS, State, parse_state
from twdiag.tcp.phases import ORDINARY_CLOSE, PHASES
from twdiag.tcp.transitions import TRANSITIONS, Transition, transitions_from, transitions_into

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twdiag.explain.library import IndexPart
    from twdiag.explain.page import PageBlock
    from twdiag.explain.steps import Move, Packet, StoryStep
    from twdiag.explain.story import Story

SCHEMA: Final = "twdiag-explain/1"


def index_as_json(groups: Iterable[IndexPart]) -> dict[str, Any]:
    """Return the list of all pages, and the handshake model itself."""
    return {
        "schema": SCHEMA,
        "pages": [
            {"name": p.name, "kind": p.kind.value, "title": p.title, "summary": p.summary}
            for group in groups
            for p in group.entries
        ],
        "model": {
            "time_wait_seconds": TIME_WAIT_SECONDS,
            "states": [_state(state) for state in State],
            "transitions": [_transition(move) for move in TRANSITIONS],
            "ordinary_close": [
                {
                    "number": step.number,
                    "sender": step.sender.value,
                    "segment": step.segment.value,
                    "cause": step.cause,
                    "active": step.active.name,
                    "passive": step.passive.name,
                }
                for step in ORDINARY_CLOSE
            ],
        },
    }


def page_as_json(page: Page, now: Iterable[PageBlock] = ()) -> dict[str, Any]:
    """Return a page: its words, its drawings, and the part of the model that it is about."""
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "page": {
            "name": page.name,
            "kind": page.kind.value,
            "title": page.title,
            "summary": page.summary,
            "body": [_block(block) for block in page.body],
            "see": list(page.see),
            "cites": list(page.cites),
        },
    }
    state = parse_state(page.name) if page.kind is PageKind.STATE else None
    if state is not None:
        result["state"] = {
            **_state(state),
            "ways_in": [_transition(move) for move in transitions_into(state)],
            "ways_out": [_transition(move) for move in transitions_from(state)],
        }
    story = find_story(page.name) if page.kind is PageKind.SCENARIO else None
    if story is not None:
        result["scenario"] = _story(story)
    live = [_block(block) for block in now]
    if live:
        result["now"] = live
    return result


def _state(state: State) -> dict[str, Any]:
    phase = PHASES[state]
    return {
        "name": state.name,
        "number": int(state),
        "rfc": state.rfc,
        "ss": state.ss,
        "role": phase.role.value,
        "step": phase.step,
        "meaning": phase.meaning,
        "waits_for": phase.waits_for.value,
        "next": phase.next,
        "ends": phase.ends,
        "section": phase.section,
    }


def _transition(move: Transition) -> dict[str, Any]:
    return {
        "before": move.before.name,
        "event": move.event.name,
        "cause": move.event.value,
        "sends": move.sends.value if move.sends else None,
        "after": move.after.name,
        "role": move.role.value,
        "section": move.section,
        "note": move.note,
        "linux": move.linux,
    }


def _story(story: Story) -> dict[str, Any]:
    play = played(story)
    left, right = play.first
    return {
        "left": story.left,
        "right": story.right,
        "start": {"left": _name(left), "right": _name(right)},
        "steps": [_step(step) for step in play.steps],
    }


def _step(step: StoryStep) -> dict[str, Any]:
    return {
        "what": type(step.what).__name__.lower(),
        "text": step.title,
        "segments": [_packet(packet) for packet in step.packets],
        "fate": getattr(getattr(step.what, "fate", None), "value", None),
        "moves": [_move(move) for move in step.moves],
        "left": _name(step.left),
        "right": _name(step.right),
        "why": step.why,
    }


def _packet(packet: Packet) -> dict[str, Any]:
    return {
        "number": packet.number,
        "sender": packet.sender.value,
        "flags": packet.segment.value.split(","),
        "seq": packet.seq,
        "ack": packet.ack,
        "length": packet.length,
        "remark": packet.remark,
    }


def _move(move: Move) -> dict[str, Any]:
    return {
        "side": move.side.value,
        "before": move.before.name,
        "event": move.event.name,
        "after": move.after.name,
    }


def _name(state: State | None) -> str | None:
    return None if state is None else state.name


def _block(block: PageBlock) -> dict[str, Any]:
    """Return one block; a drawing is its lines in Unicode."""
    if isinstance(block, Heading):
        return {"type": "heading", "text": block.text}
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    if isinstance(block, Item):
        return {"type": "item", "mark": block.mark.strip(" :"), "text": block.text}
    if isinstance(block, Term):
        return {"type": "term", "term": block.term, "text": block.text}
    if isinstance(block, Code):
        return {"type": "code", "lines": list(block.lines)}
    if isinstance(block, PageTable):
        return {"type": "table", "rows": [list(row) for row in block.rows]}
    if isinstance(block, Command):
        return {"type": "command", "command": block.command, "shows": block.shows}
    assert isinstance(block, Drawing)
    return {"type": "drawing", "lines": block.draw(False, 80)}
