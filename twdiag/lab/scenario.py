"""What a scenario is: a story that real sockets play, and the findings it must lead to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.lab.stage import Stage


@dataclass(frozen=True)
class Expected:
    """A finding that a scenario must lead to; `evidence` is the part that must hold exactly."""

    rule: str
    severity: str
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """A situation made of real sockets; every rule that `expects` does not name stays silent.

    `summary` is one line, `teaches` a paragraph for the learner.  `settle` is how many seconds pass
    between the end of `build` and the look at the sockets, for findings that rest on an age.
    `interval` is for how long to watch while the programs go on (Stage.go_on()), for findings that
    rest on what happens.  `limits` are those of its diagnosis that differ from the default: nobody
    waits for an hour.
    """

    name: str
    summary: str
    teaches: str
    build: Callable[[Stage], None]
    expects: tuple[Expected, ...] = ()
    settle: float = 0.0
    interval: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)
