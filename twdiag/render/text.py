"""Write a report for people: one screen, all of it, or a line for each finding.

The report is laid out as styled lines; only printing them in colour needs rich, so a report into a
pipe is plain and starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.render.pieces import Detail, write_lines

if TYPE_CHECKING:
    from typing import TextIO

    from twdiag.model.findings import Report
    from twdiag.render.pieces import Look


def render_text(report: Report, out: TextIO, look: Look) -> None:
    """Write the report; every character of it that came from outside is inert."""
    if look.detail is Detail.NORMAL:
        from twdiag.render.screen import screen

        write_lines(screen(report, look), out, look)
    else:
        from twdiag.render.full import full

        write_lines(full(report, look), out, look)
