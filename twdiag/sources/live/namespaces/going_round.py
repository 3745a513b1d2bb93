"""Look into network namespaces one after the other, within a time budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from twdiag.errors import TwdiagError
from twdiag.model.namespaces import NO_TIME, UNSEEN, by_business
from twdiag.model.snapshot import BARRED, Gap
from twdiag.sources.live import rights
from twdiag.sources.live.namespaces.entering import Refused, Vanished, inside
from twdiag.sources.live.namespaces.search import inode_of, read_usage
from twdiag.wording import few, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twdiag.model.namespaces import Namespace

T = TypeVar("T")

_SECONDS_A_ROW: Final = 40e-6
"""What a row of /proc/PID/net/tcp takes to be read twice: the listeners have to come first."""


@dataclass(frozen=True)
class Visit(Generic[T]):
    """One namespace with what some work found there; `why_not` says why it was left out.

    `why_not` is "" where it was looked at, else "rights", "time", "gone" or the error's sentence.
    `outside` tells that it was not entered: what was found there is what others may see of it.
    """

    namespace: Namespace
    result: T | None = None
    why_not: str = ""
    outside: bool = False


def visit(
    namespaces: tuple[Namespace, ...],
    work: Callable[[Namespace], T],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    from_outside: Callable[[Namespace], T] | None = None,
) -> Iterator[Visit[T]]:
    """Yield what some work finds in each namespace with sockets or NAT, the busiest first.

    The own one comes first.  No visit begins once so many seconds have passed: the rest is yielded
    as left out for lack of time.  Nothing is said of empty ones, which are not entered; one whose
    usage is not known is entered to see whether it is empty.  Where entering is refused, other work
    may look from outside, if what it would read can be read in the time that is left.
    """
    until = clock() + seconds
    for namespace in by_business(namespaces):
        if clock() >= until and not namespace.own:
            yield Visit(namespace, None, "time")
            continue
        try:
            found = inside(namespace, lambda n=namespace: _unless_empty(n, work))  # type: ignore[misc]
        except Refused:
            yield _from_outside(namespace, from_outside, until - clock())
        except Vanished:
            yield Visit(namespace, None, "gone")
        except TwdiagError as error:
            yield Visit(namespace, None, error.what)
        else:
            if found is not None:
                yield Visit(namespace, found[0])


def _from_outside(
    namespace: Namespace, work: Callable[[Namespace], T] | None, seconds: float
) -> Visit[T]:
    """Return what some work finds from outside of a namespace, or why it was not done."""
    if work is None or namespace.usage is None:
        return Visit(namespace, None, "rights")
    if namespace.usage.total * _SECONDS_A_ROW > seconds:
        return Visit(namespace, None, "time")
    try:
        return Visit(namespace, work(namespace), outside=True)
    except TwdiagError:
        return Visit(namespace, None, "gone" if _has_ended(namespace) else "rights")


def _has_ended(namespace: Namespace) -> bool:
    return all(inode_of(f"/proc/{pid}/net/tcp") != namespace.table for pid in namespace.pids)


def _unless_empty(namespace: Namespace, work: Callable[[Namespace], T]) -> tuple[T] | None:
    """Return what the work finds, None in an empty namespace that nobody saw before."""
    if namespace.usage is None and not namespace.own:
        usage = read_usage()
        if usage is not None and usage.is_empty:
            return None
    return (work(namespace),)


def left_out(visits: Iterable[Visit[T]]) -> list[Gap]:
    """Return one gap for each reason for which namespaces were left out, with their names."""
    reasons: dict[str, list[Namespace]] = {}
    for one in visits:
        if one.why_not and one.why_not != "gone":
            reasons.setdefault(one.why_not, []).append(one.namespace)
    return [_left_out(why, namespaces) for why, namespaces in reasons.items()]


def _left_out(why: str, namespaces: list[Namespace]) -> Gap:
    number = len(namespaces)
    many = "1 network namespace was" if number == 1 else f"{number} namespaces were"
    text = f"{many} not looked at ({few(n.label for n in namespaces)}): "
    if why == "rights":
        short = f"{number} not looked at"
        how = rights.to_get(*rights.ENTER)
        return Gap(BARRED, text + "no permission", how, partial=True, short=short)
    if why == "time":
        how = f"look at one alone: --netns {quoted(namespaces[0].label)}"
        return Gap(UNSEEN, text + NO_TIME, how, partial=True)
    return Gap(UNSEEN, text + why, "run again", partial=True)
