"""Which processes are relatives: workers of one master are one program, two services are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    class Relative(Protocol):
        """What is known of a process: `parent` is None unseen, `script` is what it interprets."""

        @property
        def pid(self) -> int | None: ...
        @property
        def name(self) -> str: ...
        @property
        def user(self) -> str: ...
        @property
        def parent(self) -> int | None: ...
        @property
        def script(self) -> str: ...


def family(
    process: Relative, known: Mapping[int, Relative], called: Callable[[str], str] = str
) -> tuple[int | None, str]:
    """Return what relatives share: the number of their eldest's parent, or its own; a script.

    Children of init (1) have nothing in common.  A supervisor's have it only if they run the same;
    a worker that was started by code, without a script, belongs to what started it.  `called` makes
    one name of those that differ by a number.
    """
    passed = set[int | None]()  # a number can be another process's by now: parents may go round
    while process.pid not in passed:
        passed.add(process.pid)
        parent = known.get(process.parent or 0)
        if parent is None or not _is_child(process, parent, called):
            break
        process = parent
    number = process.parent if process.parent and process.parent > 1 else process.pid
    return number, process.script


def _is_child(process: Relative, parent: Relative, called: Callable[[str], str]) -> bool:
    if parent.user != process.user or called(parent.name) != called(process.name):
        return False
    return process.script in ("", parent.script)
