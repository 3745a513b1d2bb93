"""Plays of real sockets that the tests of this folder share; they all run at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

from twdiag import lab
from twdiag.errors import SourceRefused

from . import menagerie

if TYPE_CHECKING:
    from twdiag.lab.play import Play

T = TypeVar("T")


def result_of(play: Play[T]) -> T:
    """Return what a play's observer saw; skip where there can be no private namespace."""
    try:
        return play.result(timeout=60)
    except SourceRefused as error:
        if "private network namespace" not in error.what:
            raise
        pytest.skip(f"{error.what}; {error.next_step}")


@pytest.fixture(scope="session")
def views() -> menagerie.Views:
    """Every reader's view of the same sockets."""
    return result_of(lab.start(menagerie.SCENARIO, menagerie.observe))
