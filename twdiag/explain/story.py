"""A story of the handshake with its two ends, and how it goes once it is played."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from twdiag.explain.play import StoryPlay

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, and the names of its two ends; the page of its name says what it teaches."""

    name: str
    left: str
    right: str
    plot: Callable[[StoryPlay], None]


def perform(story: Story) -> StoryPlay:
    """Play a story from its beginning to its end."""
    play = StoryPlay(story.left, story.right)
    story.plot(play)
    return play


@cache
def played(story: Story) -> StoryPlay:
    """Return a story as it was played, once."""
    return perform(story)
