"""The stories that can be drawn and walked through, in the order of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.explain.stories.abrupt import ABRUPT
from twdiag.explain.stories.again import AGAIN
from twdiag.explain.stories.closing import CLOSING
from twdiag.explain.stories.opening import OPENING
from twdiag.explain.stories.trouble import TROUBLE
from twdiag.explain.stories.unanswered import UNANSWERED

if TYPE_CHECKING:
    from twdiag.explain.story import Story

STORIES: Final[tuple[Story, ...]] = (
    *OPENING,
    *CLOSING,
    *TROUBLE,
    *UNANSWERED,
    *AGAIN,
    *ABRUPT,
)


def find_story(name: str) -> Story | None:
    """Return the story of this name, None where the page is about something else."""
    return next((story for story in STORIES if story.name == name), None)
