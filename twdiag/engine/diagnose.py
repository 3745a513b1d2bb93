"""What `twdiag diagnose` does: read the settings, look, and say what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from twdiag.engine.asked import Asked, choice_of
from twdiag.engine.examine import CheckRequest
from twdiag.errors import UsageError, refuse_both

if TYPE_CHECKING:
    from twdiag.engine.look import Question
    from twdiag.model.findings import Report


@dataclass(frozen=True)
class DiagnoseRequest(Asked):
    """What the user asked `diagnose` for, as far as it matters for what is looked at."""

    source: str = "auto"
    interval: float = 0.0
    netns: str | None = None
    all_netns: bool = False
    this_netns: bool = False


class Diagnosis(NamedTuple):
    """The report, and what is worth to know about the settings."""

    report: Report
    notes: tuple[str, ...] = ()


def diagnose(request: DiagnoseRequest) -> Diagnosis:
    """Return the report on this host; raises UsageError where the request makes no sense."""
    _refuse_two_places(request)
    if not request.interval >= 0:  # nan too
        raise UsageError("--interval needs a number of seconds", "for example --interval 10")
    choice = choice_of(request)
    question = choice.question._replace(source=request.source, interval=request.interval)
    report = _looked(request, question)
    return Diagnosis(report._replace(gaps=(*report.gaps, *choice.left_out)), choice.notes)


def _looked(request: DiagnoseRequest, question: Question) -> Report:
    """Return the report on the namespaces asked for: on all of them unless one is named."""
    from twdiag.engine import host

    if request.netns is not None:
        return host.look_in(request.netns, question)
    if request.this_netns:
        return host.look_here(question)
    return host.look_at_all(question, ask_for_all=request.all_netns)


def _refuse_two_places(request: DiagnoseRequest) -> None:
    refuse_both(
        {
            "--netns": request.netns is not None,
            "--all-netns": request.all_netns,
            "--this-netns": request.this_netns,
        }
    )


def as_check(request: DiagnoseRequest, format: str, verbosity: int) -> CheckRequest:
    """Return the same request to `check`: it exits 0 whatever it finds, and is not in a hurry."""
    _refuse_two_places(request)
    if request.interval:
        raise UsageError(
            f"--interval goes with the formats text and json, not {format}",
            "to compare two runs: twdiag check --state FILE",
        )
    if request.netns is not None:
        raise UsageError(
            f"--netns goes with the formats text and json, not {format}",
            "look at one namespace: nsenter -t PID -n twdiag check",
        )
    return CheckRequest(
        source=request.source,
        format="text" if format == "nagios" else format,
        verbosity=verbosity,
        timeout=60.0,
        config=request.config,
        exit_zero=True,
        limits=request.limits,
        select=request.select,
        ignore=request.ignore,
        ports=request.ports,
        processes=request.processes,
        all_netns=request.all_netns,
    )
