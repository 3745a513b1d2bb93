"""Which findings of one namespace a person takes for one: of one program, one cause, one severity.

Where something was not seen, findings are not alike: an unseen owner may be any program.  Only of
what processes wait for it is known that few were asked, and that all others are like most of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from twdiag.analysis.kinship import family
from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    Confidence,
    DestinationSubject,
    ListenerSubject,
    ProcessSubject,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twdiag.model.findings import Finding
    from twdiag.model.snapshot import Owner

    _Known = dict[int, Owner | ProcessSubject]

T = TypeVar("T")

MANY: Final = 3
"""From so many on, findings that are alike are one line."""

# "worker-8", "celery@3", "worker[12]": not "python3", which is no worker of "python2".
_NUMBER: Final = re.compile(r"(?<=[-_:@/#\[( ])\d+(?=[\])]?$)")
_KINDS: Final = (
    facts.CLOSE_WAIT,
    facts.ESTABLISHED,
    facts.OTHER_STATES,
    facts.NOWHERE,
    facts.ELSEWHERE,
    facts.FILES,
    facts.PIPES,
    facts.OTHER_FDS,
)
"""What the descriptors of a process can be."""

Likeness = tuple[object, ...]


def groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return the findings that are one to a person, each group in their order.

    What is like too few others is alone.
    """
    known = _processes_of(findings)
    by_key: dict[Likeness, list[Finding]] = defaultdict(list)
    result: list[list[Finding]] = []
    for finding in findings:
        key = _likeness(finding, known)
        if key is None:
            result.append([finding])
        else:
            by_key[key].append(finding)
    for alike in by_key.values():
        for part in _by_place(alike):
            for some in _by_cause(part):
                result += [some] if len(some) >= MANY else [[finding] for finding in some]
    return result


@lru_cache(maxsize=8192)
def program(name: str) -> str:
    """Return the name of a process with "*" for its number: "worker-*" of "worker-8"."""
    return _NUMBER.sub("*", name)


def _processes_of(findings: Iterable[Finding]) -> _Known:
    """Return the processes that findings are about, by number."""
    known: _Known = {}
    for subject in (finding.subject for finding in findings):
        if isinstance(subject, ProcessSubject) and subject.pid is not None:
            known[subject.pid] = subject
        elif isinstance(subject, ListenerSubject):
            known.update((owner.pid, owner) for owner in subject.processes)
    return known


def _likeness(finding: Finding, known: _Known) -> Likeness | None:
    """Return what findings that are alike have in common, None where one is like no other."""
    who = _who(finding, known)
    if who is None:
        return None
    return (
        finding.rule,
        int(finding.severity),  # hashed at C speed, unlike an enumeration
        finding.confidence is Confidence.OBSERVED,
        finding.netns,
        finding.namespace,  # two can have one name
        finding.place.state if finding.place else None,
        finding.container.id if finding.container else None,
        _mostly(finding) if facts.LOOKED in finding.evidence else None,
        tuple(
            (end.must_act, end.netns, program(end.process.name) if end.process else None)
            for end in finding.other_ends
        ),
        who,
    )


def _who(finding: Finding, known: _Known) -> Likeness | None:
    """Return whom a finding is about, without what tells it from its like."""
    subject = finding.subject
    if isinstance(subject, ProcessSubject):
        if subject.pid is None:
            return None
        return "process", program(subject.name), subject.user, family(subject, known, program)
    if isinstance(subject, ListenerSubject):
        if not subject.processes:
            return None
        first = subject.processes[0]
        return "listener", program(first.name), first.user, family(first, known, program)
    if isinstance(subject, (DestinationSubject, AddressSubject)):
        # TIME_WAIT has no owner: of most destinations nobody knows who closes there.
        return subject.kind, *sorted({program(name) for name in _processes(finding)})
    return None


def _processes(finding: Finding) -> Iterator[str]:
    for key in (facts.PROCESSES, facts.LIKELY_PROCESSES):
        names = finding.evidence.get(key)
        yield from map(str, names) if isinstance(names, list) else ()


def _mostly(finding: Finding) -> str:
    """Return what most of the descriptors of a process are."""
    evidence = finding.evidence
    numbers = {kind: evidence.get(kind) for kind in _KINDS}
    return max(numbers, key=lambda kind: n if isinstance(n := numbers[kind], int) else 0)


def _by_place(alike: list[Finding]) -> Iterator[list[Finding]]:
    """Yield destinations by their service: many of one port, else many ports of one address."""
    if not isinstance(alike[0].subject, DestinationSubject) or len(alike) < MANY:
        yield alike
        return
    rest = []
    for some in _sorted_by(alike, _port).values():
        if len(some) >= MANY:
            yield some
        else:
            rest += some
    yield from _sorted_by(rest, _address).values()


def _port(finding: Finding) -> object:
    return finding.subject.port if isinstance(finding.subject, DestinationSubject) else None


def _address(finding: Finding) -> object:
    return finding.subject.address if isinstance(finding.subject, DestinationSubject) else None


def _by_cause(alike: list[Finding]) -> Iterator[list[Finding]]:
    """Yield findings by what their processes wait for.

    Few are asked: the others are told with these where most of these have one cause.
    """
    asked = [finding for finding in alike if finding.waits]
    if not asked:
        yield alike
        return
    causes = _sorted_by(asked, lambda finding: cause(finding.waits[0]))
    main = max(causes, key=lambda key: len(causes[key]))
    if 2 * len(causes[main]) > len(asked):
        others = {id(f) for key, some in causes.items() if key != main for f in some}
        causes[main] = [finding for finding in alike if id(finding) not in others]
    else:
        yield [finding for finding in alike if not finding.waits]
    yield from causes.values()


def cause(sentence: str) -> str:
    """Return what a process waits for without the numbers that differ between its like."""
    words: list[str] = []
    for word in sentence.split():
        bare = word.strip("(),;:")
        counted = bare.replace(",", "").isdigit()
        kept = word.replace(bare, "#") if counted else word
        if counted and words[-1:] == ["of"] and words[-2:-1] in (["#"], ["any"]):
            del words[-2:]  # "3 of 4", "any of 40" and "all 4" are the same to whoever reads it
        elif counted and words[-1:] == ["all"]:
            del words[-1]
        words.append(kept)
    return " ".join(words)


def _sorted_by(findings: Iterable[Finding], key: Callable[[Finding], T]) -> dict[T, list[Finding]]:
    result: dict[T, list[Finding]] = defaultdict(list)
    for finding in findings:
        result[key(finding)].append(finding)
    return result
