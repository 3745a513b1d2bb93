"""Follow the ends of connections, and how the open ones idle, until somebody says to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twdiag.analysis.close_summary import TraceOutcome
from twdiag.engine.follow import follow
from twdiag.engine.following import CALM, FOREVER, moment
from twdiag.engine.idle import IdleFollower

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twdiag.engine.follow import TraceRequest
    from twdiag.model.closes import Close


@dataclass(frozen=True)
class Hooks:
    """What is called meanwhile.

    `tell` gets each end that was asked for, `say` a sentence where the best source cannot be had;
    `stop` says whether to end; `ready` is called when nothing that ends from then on is missed,
    `told_all` after each burst.
    """

    tell: Callable[[Close], None] = lambda close: None
    say: Callable[[str], None] = lambda sentence: None
    stop: Callable[[], bool] = lambda: False
    ready: Callable[[], None] = lambda: None
    told_all: Callable[[], None] = lambda: None


def watch_ends(request: TraceRequest, hooks: Hooks) -> TraceOutcome:
    """Tell the ends of connections until a hook says to stop or the time is over.

    Raises SourceError where there is no source at all.
    """
    with follow(request, hooks.say) as followed:
        began = followed.clock.began
        outcome = TraceOutcome(followed.source, followed.clock.unix(began))
        idle = IdleFollower(request.ports, hooks.say)

        def told(closes: Iterable[Close]) -> None:
            idle.take_in(closes, followed)
            for close in closes:
                if request.asks_for(close):
                    outcome.summary.add(close)
                    hooks.tell(close)
            hooks.told_all()

        idle.look()
        hooks.ready()
        end = FOREVER if request.seconds is None else began + int(request.seconds * 1e9)
        try:
            while not hooks.stop() and moment() < end:
                followed.pause(min((end - moment()) / 1e9, CALM))
                told(followed.step())
                idle.look()
            told(followed.finish())
        finally:
            outcome.seconds = (moment() - began) / 1e9
            outcome.losses = followed.losses()
            outcome.watched = idle.watched(outcome.seconds)
        return outcome
