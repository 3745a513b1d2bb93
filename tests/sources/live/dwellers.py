"""Processes that live in private network namespaces of their own while a test looks at them."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import SourceRefused
from twdiag.lab import kernel
from twdiag.lab.network import enter_private

from .confinement import become_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def dweller(
    work: Callable[[], object] | None = None, *, nobody: bool = False, name: str = "dweller"
) -> Iterator[int]:
    """Yield the number of a process in a new network namespace, once it has done some work there.

    What the work returns lives as long as the process.  Skips where no such namespace is allowed.
    """
    ready, tell = os.pipe()
    stay, end = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            kernel.die_with_parent(parent, 9)
            os.close(end)
            os.close(ready)
            kernel.set_name(name)
            outcome, kept = _settle(work, nobody)
            os.write(tell, pickle.dumps(outcome))
            os.close(tell)
            os.read(stay, 1)
            del kept
        finally:
            os._exit(0)
    os.close(tell)
    os.close(stay)
    try:
        with os.fdopen(ready, "rb") as pipe:
            problem = pickle.loads(pipe.read())
        if isinstance(problem, SourceRefused):
            pytest.skip(f"{problem.what}; {problem.next_step}")
        if problem is not None:
            raise problem
        yield pid
    finally:
        os.close(end)
        os.waitpid(pid, 0)


def _settle(work: Callable[[], object] | None, nobody: bool) -> tuple[object, object]:
    try:
        if nobody and not become_nobody():
            return SourceRefused("this namespace knows no other user", "run as root"), None
        enter_private()
        return None, work() if work else None
    except Exception as error:
        return error, None
