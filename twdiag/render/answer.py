"""Write the answer of a check in any of its formats."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twdiag.check.verdict import Answer


def written(answer: Answer, format: str, *, mail: bool, verbosity: int, seconds: float) -> str:
    """Return an answer as "text", "json", "checkmk" or "prometheus".

    `mail` is text for a person, without perfdata; `seconds` how long the look took.
    """
    out = io.StringIO()
    if format == "prometheus":
        from twdiag.render.prometheus import render_prometheus

        render_prometheus(answer, out, time.time(), seconds)
    elif format == "checkmk":
        from twdiag.render.checkmk import render_checkmk

        render_checkmk(answer, out, verbosity)
    elif format == "json":
        from twdiag.render.checkjson import render_check_json

        render_check_json(answer, out)
    elif mail:
        from twdiag.render.nagios import render_mail

        render_mail(answer, out, max(verbosity, 1))
    else:
        from twdiag.render.nagios import render_nagios

        render_nagios(answer, out, verbosity)
    return out.getvalue()
