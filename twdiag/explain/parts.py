"""Carries out the directives of pages: drawings, what the model says of a state, and stories."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from twdiag.explain.diagram import close_chart, label, left_out, sequence_chart, state_diagram
from twdiag.explain.page import Drawing, Heading, Item, PageBlock
from twdiag.tcp import State, parse_state
from twdiag.tcp.phases import PHASES
from twdiag.tcp.transitions import transitions_from, transitions_into

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.explain.steps import StoryStep
    from twdiag.tcp.transitions import Transition


def carry_out(name: str, words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return what a directive stands for; raises ValueError saying what is wrong with it."""
    if name not in _PARTS:
        raise ValueError(f"there is no directive {name!r}; known: {', '.join(sorted(_PARTS))}")
    return _PARTS[name](words)


def _state(words: tuple[str, ...]) -> State:
    state = parse_state(words[0]) if len(words) == 1 else None
    if state is None:
        raise ValueError("expected the name of one state")
    return state


def _nothing(words: tuple[str, ...]) -> None:
    if words:
        raise ValueError(f"expected nothing after the name, not {words[0]!r}")


def _close(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return the drawing of the ordinary close."""
    _nothing(words)
    return (Drawing(lambda ascii, width: close_chart(ascii=ascii, width=width)),)


def _place(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return the drawing of a state's place in the handshake."""
    state = _state(words)
    return (Drawing(lambda ascii, width: close_chart(state, ascii=ascii, width=width)),)


def _machine(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return the state diagram, with a mark at a state if one is named."""
    state = _state(words) if words else None
    diagram = Drawing(lambda ascii, width: state_diagram(state, ascii=ascii, width=width))
    if state is None:
        return (diagram,)
    return Heading("In the state diagram (cause / segment sent)"), diagram


def _facts(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return whose move it is in a state, what ends it, and how the tools spell it."""
    state = _state(words)
    phase = PHASES[state]
    step = f", after segment {phase.step} of the close" if phase.step else ""
    spelled = f"{state.name} (kernel, netstat), {state.ss} (ss), {state.rfc} (RFC 9293)"
    if state.name == state.ss == state.rfc:
        spelled = f"{state.name} everywhere"
    return (
        _fact("Role", phase.role.value + step),
        _fact("Waits for", f"{phase.waits_for.value}: {phase.next}"),
        _fact("Ends", phase.ends),
        _fact("Spelled", spelled),
    )


def _fact(name: str, text: str) -> Item:
    return Item(text, f"{name:10}")


def _ways(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return every transition into a state and out of it, and what it answers without leaving."""
    state = _state(words)
    into = [move for move in transitions_into(state) if move.before is not state]
    out = [move for move in transitions_from(state) if move.after is not state]
    stays = [move for move in transitions_from(state) if move.after is state]
    return (
        Heading("Ways in"),
        *(_way(move, f"<- {label(move.before)}") for move in into),
        Heading("Ways out"),
        *(_way(move, f"-> {label(move.after)}") for move in out),
        *((Heading("Answered without leaving"),) if stays else ()),
        *(_way(move, "-") for move in stays),
    )


def _not_drawn(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return the ways that the state diagram leaves out, those of one event in one line."""
    _nothing(words)
    ways: dict[tuple[str, str], list[str]] = {}
    for move in left_out():
        sends = f", sends {move.sends.value}" if move.sends else ""
        cause = f"{move.event.value}{' ' + move.when if move.when else ''}{sends}"
        ways.setdefault((cause, label(move.after)), []).append(label(move.before))
    return tuple(
        Item(f"{', '.join(before)} -> {after}: {cause}") for (cause, after), before in ways.items()
    )


def _way(move: Transition, way: str) -> Item:
    """Return one transition in words; `way` is where it leads or comes from."""
    sends = f", sends {move.sends.value}" if move.sends else ""
    note = f" ({move.note})" if move.note else ""
    linux = "" if move.linux else " [RFC only, not on Linux]"
    when = f" {move.when}" if move.when else ""
    mark, _, other = way.partition(" ")
    cause = f"{move.event.value}{when}{sends}{note}{linux}"
    return Item(f"{other}: {cause}" if other else cause, mark)


def _story(words: tuple[str, ...]) -> tuple[PageBlock, ...]:
    """Return the chart of a story and the reason for each of its steps."""
    from twdiag.explain.stories import find_story
    from twdiag.explain.story import played

    story = find_story(words[0]) if len(words) == 1 else None
    if story is None:
        raise ValueError("expected the name of one story in stories/")
    play = played(story)
    return (
        Drawing(partial(_chart, words[0])),
        Heading("Step by step (the numbers are those of the segments)"),
        *(_reason(step) for step in play.steps if step.why),
    )


def _chart(name: str, ascii: bool, width: int) -> list[str]:
    from twdiag.explain.stories import find_story
    from twdiag.explain.story import played

    story = find_story(name)
    assert story is not None
    return sequence_chart(played(story).chart(), ascii=ascii, width=width)


def _reason(step: StoryStep) -> Item:
    """Return the reason for a step, marked with the number of its segment or its words."""
    if not step.packets:
        return Item(f"[{step.title}] {step.why}")
    marks = " and ".join(str(packet.number) for packet in step.packets)
    return Item(step.why, marks)


_PARTS: Final[dict[str, Callable[[tuple[str, ...]], tuple[PageBlock, ...]]]] = {
    "close": _close,
    "place": _place,
    "machine": _machine,
    "facts": _facts,
    "ways": _ways,
    "not-drawn": _not_drawn,
    "story": _story,
}
