"""What `twdiag trace` does: follow the ends of connections in a namespace, then judge them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from twdiag.engine.follow import SOURCES, TraceRequest, follow
from twdiag.engine.following import Followed
from twdiag.engine.watched import Hooks, watch_ends
from twdiag.errors import SourceError
from twdiag.model.snapshot import HOST_NETNS

if TYPE_CHECKING:
    from twdiag.analysis.close_summary import TraceOutcome
    from twdiag.model.findings import Finding

__all__ = ["SOURCES", "Followed", "Hooks", "TraceRequest", "follow", "trace"]


def trace(request: TraceRequest, hooks: Hooks) -> TraceOutcome:
    """Follow until a hook says to stop or the time is over; return what was told and found.

    Raises UsageError where --netns means no namespace, SourceRefused where it may not be entered,
    SourceError where there is no source at all.
    """
    work = partial(_followed, request, hooks)
    if request.netns is None:
        return work()
    from twdiag.analysis.elsewhere import placed
    from twdiag.engine.netns import resolve
    from twdiag.sources.live.namespaces.entering import inside

    namespace = resolve(request.netns)
    outcome = inside(namespace, work)
    if not namespace.own:
        outcome.findings = tuple(
            placed(finding, namespace)._replace(netns=HOST_NETNS) for finding in outcome.findings
        )
    return outcome


def _followed(request: TraceRequest, hooks: Hooks) -> TraceOutcome:
    outcome = watch_ends(request, hooks)
    try:
        outcome.findings = _judged(request, outcome)
    except SourceError as error:
        hooks.say(f"it was not looked at whether requests meet closes: {error.what}")
    return outcome


def _judged(request: TraceRequest, outcome: TraceOutcome) -> tuple[Finding, ...]:
    """Return what the rules say of how connections idled and ended."""
    watched = outcome.watched
    if watched is None or not any(idling.ends for idling in watched.idling):
        return ()
    from twdiag import sources
    from twdiag.engine.look import Question, examined, filtered
    from twdiag.rules import keep_alive_race

    snapshot = sources.collect(patience=0.0)._replace(watched=watched)
    question = Question(
        rules=(keep_alive_race.RULE,),
        ports=tuple(request.ports),
        processes=tuple(request.processes),
    )
    return filtered(examined(snapshot, question).report, question).findings
