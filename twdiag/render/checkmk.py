"""Write the answer of a check as a line of a Checkmk local check.

`<status> "<service>" <metrics> <text>`, metrics as name=value;warn;crit;min;max joined by `|`, or a
minus sign: https://docs.checkmk.com/latest/en/localchecks.html.  A backslash and an n in the text
begin its next line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from twdiag.check.metrics import METRICS
from twdiag.model.ranges import number
from twdiag.render.nagios import long_output, status_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from twdiag.check.metrics import Metric
    from twdiag.check.verdict import Answer
    from twdiag.model.ranges import Range

SERVICE: Final = "TCP closing"
"""The name of the service: no quotes, which Checkmk takes for its ends."""


def render_checkmk(answer: Answer, out: TextIO, verbosity: int = 0) -> None:
    """Write one line; what a verbosity asks for becomes the details of the service."""
    # Checkmk shows the status itself.
    text = status_line(answer).partition(" - ")[2]
    lines = (text, *long_output(answer, verbosity))
    metrics = "|".join(_metrics(answer)) or "-"
    out.write(f'{int(answer.status)} "{SERVICE}" {metrics} ' + r"\n".join(lines) + "\n")


def _metrics(answer: Answer) -> Iterator[str]:
    """Yield what was seen; Checkmk has no value for what was not."""
    for metric in METRICS:
        value = answer.values.get(metric.name)
        if value is not None and (answer.compared or not metric.compares):
            yield _entry(metric, value, answer)


def _entry(metric: Metric, value: float, answer: Answer) -> str:
    levels = (
        _level(ranges.get(metric.name)) for ranges in (answer.shown.warning, answer.shown.critical)
    )
    most = "" if metric.most is None else number(metric.most)
    return ";".join((f"{metric.name}={number(value)}", *levels, "0", most)).rstrip(";")


def _level(allowed: Range | None) -> str:
    """Return a range as `upper` or `lower:upper`; nothing for one that Checkmk has no way to draw.

    The status says already whether a range was left: these are for the graph.
    """
    if allowed is None or allowed.inside or math.isinf(allowed.end):
        return ""
    lower = f"{number(allowed.start)}:" if allowed.start > 0 else ""
    return lower + number(allowed.end)
