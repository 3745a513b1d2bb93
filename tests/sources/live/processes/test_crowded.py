"""Which processes are worth a closer look: near their limit, or with most of the lost sockets."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from tests.sources.live.confinement import in_child
from twdiag.sources.live.processes.crowded import MANY, read_crowded
from twdiag.sources.live.processes.headroom import counts_descriptors

if TYPE_CHECKING:
    from twdiag.sources.live.processes.crowded import Crowded

pytestmark = pytest.mark.skipif(not counts_descriptors(), reason="Linux 6.2 counts descriptors")

_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def looked_at(unlisted: int, *, limit: int = 4 * MANY, count: int = MANY + 100) -> Crowded:
    """Return what is seen of a process with so many descriptors of a limit."""

    def look() -> Crowded:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, _HARD))
        nothing = os.open(os.devnull, os.O_RDONLY)
        for _ in range(count):
            os.dup(nothing)
        return read_crowded([os.getpid()], unlisted)

    return in_child(look)


@pytest.mark.parametrize(
    ("unlisted", "named"), [(0, 0), (MANY - 1, 0), (MANY, 1), (2 * MANY, 1), (3 * MANY, 0)]
)
def test_one_that_may_hold_most_of_the_lost_sockets_is_named(unlisted: int, named: int) -> None:
    seen = looked_at(unlisted)
    assert len(seen.owners) == named
    assert seen.fullest is not None
    assert 0.25 < seen.fullest < 0.5


def test_one_that_nears_its_limit_is_named_whatever_is_lost() -> None:
    assert len(looked_at(0, limit=2 * MANY).owners) == 1
