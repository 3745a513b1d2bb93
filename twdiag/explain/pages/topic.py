"""What a topic page is made of."""

from __future__ import annotations

from twdiag.explain.page import Drawing, Kind, Page, prose


def topic(
    name: str,
    title: str,
    summary: str,
    text: str,
    *,
    see: tuple[str, ...],
    cites: tuple[str, ...],
    drawing: Drawing | None = None,
) -> Page:
    """Return the page of a topic: a drawing, if it has one, and prose."""
    body = (drawing, *prose(text)) if drawing else prose(text)
    return Page(name, Kind.TOPIC, title, summary, body, see, cites)
