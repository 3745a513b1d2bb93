"""Write the answer of a check as JSON: the report of schema "twdiag/1" with a "check" beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twdiag import __version__
from twdiag.render.json import SCHEMA, to_json
from twdiag.render.nagios import status_line
from twdiag.wording import visible

if TYPE_CHECKING:
    from typing import TextIO

    from twdiag.check.verdict import Answer


def render_check_json(answer: Answer, out: TextIO) -> None:
    """Write indented ASCII JSON; without a report, schema, version, status "unknown" and check."""
    report: dict[str, Any] = (
        {"schema": SCHEMA, "version": __version__, "status": "unknown"}
        if answer.report is None
        else to_json(answer.report)
    )
    json.dump(report | {"check": _check(answer)}, out, indent=2, ensure_ascii=True, allow_nan=False)
    out.write("\n")


def _check(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status.name,
        "exit_code": int(answer.status),
        "line": status_line(answer),
        "metrics": dict(answer.values),
        "problems": [
            {
                "status": problem.status.name,
                "text": visible(problem.text),
                "rule": problem.finding.rule if problem.finding else None,
                "netns": problem.finding.netns if problem.finding else None,
                "next_step": visible(problem.next_step),
            }
            for problem in answer.problems
        ],
        "notes": list(answer.notes),
    }
