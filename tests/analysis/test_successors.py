"""Who took a listener over, and who only looks as if."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from twdiag.analysis.successors import successor


class Process(NamedTuple):
    """A process; all run the same program unless it says so."""

    pid: int
    started: int
    parent: int = 1
    executable: str = "/usr/sbin/haproxy"


OLD = Process(10, 100)
NEW = Process(20, 500)


def test_a_younger_process_of_the_program_is_the_successor() -> None:
    assert successor(OLD, [NEW]) == NEW
    assert successor(OLD, [Process(30, 900), NEW]) == NEW


def test_an_upgraded_program_is_the_same() -> None:
    assert successor(OLD._replace(executable="/usr/sbin/haproxy (deleted)"), [NEW]) == NEW


@pytest.mark.parametrize(
    "listening",
    [
        [],
        [OLD, NEW],
        [Process(5, 50)],
        [Process(20, 500, parent=10)],
        [Process(20, 500, executable="/usr/sbin/nginx")],
        [Process(20, 100)],
    ],
    ids=["nobody", "it listens itself", "master", "its child", "other program", "as old"],
)
def test_others_are_not(listening: list[Process]) -> None:
    assert successor(OLD, listening) is None
