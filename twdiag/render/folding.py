"""Fold findings into those that a person would tell: the worst, how many are like it, and where."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    DestinationSubject,
    ListenerSubject,
    ProcessSubject,
)
from twdiag.model.snapshot import HOST_NETNS
from twdiag.named import NamedTuple
from twdiag.render.alike import MANY, groups, program
from twdiag.wording import between, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twdiag.model.findings import Finding, Value

_NAMED: Final = 3
"""Of how many processes or destinations the numbers and addresses are told."""

_IN_ALL: Final = {
    facts.CLOSE_WAIT: "sockets in CLOSE_WAIT",
    facts.TIME_WAIT: "sockets in TIME_WAIT",
    facts.USED: "ports in use",
    facts.ENTRIES: "entries of connection tracking",
    facts.FDS: "open descriptors",
    facts.IDLE: "idle connections",
    facts.ACCEPT_QUEUE: "connections that wait for accept()",
    facts.SYN_SENT: "unanswered attempts",
    facts.UNANSWERED: "unanswered sockets",
}
"""What can be added up: the first number of a finding's evidence, with the words for many."""


class Folded(NamedTuple):
    """Findings that are told as one, the worst first, spread over so many namespaces.

    In one namespace they are alike; in many they are of one rule.
    """

    members: tuple[Finding, ...]
    namespaces: int = 1

    @property
    def worst(self) -> Finding:
        """The finding that stands for all of them."""
        return self.members[0]

    @property
    def findings(self) -> int:
        """How many they are."""
        return len(self.members)

    @property
    def is_many(self) -> bool:
        """Whether these are several of one namespace."""
        return self.namespaces == 1 and len(self.members) > 1

    @property
    def waits(self) -> str:
        """What the worst waits for, and of how many of them that was looked at; "" unseen."""
        asked = [finding for finding in self.members if finding.waits]
        if not asked:
            return ""
        said = self.worst.waits[0] if self.worst.waits else asked[0].waits[0]
        if not self.is_many:
            return said if self.worst.waits else ""
        all_of_them = len(asked) == len(self.members)
        some = f"all {len(asked):,}" if all_of_them else f"{len(asked):,} of {self.findings:,}"
        return f"{some} looked at: {said}"

    def summary(self, *, numbers: bool = True) -> str:
        """All of them in a sentence, with or without who they are; alone, what the finding says."""
        if not self.is_many:
            return self.worst.summary
        total = _total(self.members)
        said = f"{_who(self.members, numbers=numbers)}: {f'{total}; ' if total else ''}"
        return f"{said}the worst: {self.worst.summary}"

    def located(self, *, numbers: bool = True) -> str:
        """The summary, with where it is unless that is this process's own namespace."""
        if self.namespaces > 1:
            more = f" ({self.findings:,} findings)" if self.findings > self.namespaces else ""
            return f"in {self.namespaces:,} namespaces{more}; the worst: {self.worst.located}"
        return self._placed(self.summary(numbers=numbers)) if self.is_many else self.worst.located

    @property
    def who(self) -> str:
        """How many processes or places they are of, in one namespace, and where that is."""
        return self._placed(_who(self.members, numbers=False))

    @property
    def short(self) -> str:
        """The same with what they add up to; of many namespaces, how many and the worst of them."""
        if self.namespaces > 1:
            netns = self.worst.netns
            worst = "" if netns == HOST_NETNS else f", the worst in {netns}"
            return f"{self.worst.rule} in {self.namespaces:,} namespaces{worst}"
        total = _total(self.members)
        return f"{self.who}: {total}" if total else self.who

    def _placed(self, text: str) -> str:
        netns = self.worst.netns
        return text if netns == HOST_NETNS else f"in {netns}: {text}"


def folded(findings: Sequence[Finding]) -> list[Folded]:
    """Return findings as they are told: one where they are alike, one where they are everywhere.

    What a rule finds in many namespaces is one.  The order stays: a group stands where its worst
    finding does, which is the first.
    """
    places: dict[str, set[object]] = defaultdict(set)
    for finding in findings:
        places[finding.rule].add((finding.netns, finding.namespace))
    spread: dict[str, list[Finding]] = defaultdict(list)
    here = []
    for finding in findings:
        if len(places[finding.rule]) >= MANY:
            spread[finding.rule].append(finding)
        else:
            here.append(finding)
    told = [Folded(tuple(some), len(places[rule])) for rule, some in spread.items()]
    told += [Folded(tuple(some)) for some in groups(here)]
    order = {id(finding): number for number, finding in reversed([*enumerate(findings)])}
    return sorted(told, key=lambda one: order[id(one.worst)])


def _who(members: Sequence[Finding], *, numbers: bool) -> str:
    """Return "worker-* (500 processes, pids 101, 102, 103 and 497 more)" or the like."""
    subject = members[0].subject
    if isinstance(subject, ProcessSubject):
        number, pids = _processes(members)
        name = _name(f.subject.name for f in members if isinstance(f.subject, ProcessSubject))
        which = f", pids {_few(map(str, sorted(pids)), number)}" if numbers else ""
        return f"{name} ({number:,} processes{which})"
    places = list(dict.fromkeys(_place(finding) for finding in members))
    which = f" ({_few(places, len(places))})" if numbers else ""
    if isinstance(subject, ListenerSubject):
        servers = (f.subject.processes for f in members if isinstance(f.subject, ListenerSubject))
        name = _name(found[0].name for found in servers if found)
        return f"{name} on {len(places):,} listeners{which}"
    if len(places) == 1:  # one destination, from many addresses of this host
        return f"{places[0]} from {len(members):,} addresses"
    what = "destinations" if isinstance(subject, DestinationSubject) else "addresses"
    return f"{len(places):,} {what}{which}"


def _processes(members: Iterable[Finding]) -> tuple[int, set[int]]:
    """Return of how many processes findings are, and the numbers of those that were told."""
    number, pids = 0, set[int]()
    for finding in members:
        told = finding.evidence.get(facts.PROCESS_COUNT)
        pids.update(finding.pids)
        number += max(1, told if isinstance(told, int) else len(finding.pids))
    return number, pids


def _name(names: Iterable[str]) -> str:
    """Return the name that processes share, with "*" where their numbers stand."""
    found = list(dict.fromkeys(names))
    return found[0] if len(found) == 1 else program(found[0])


def _place(finding: Finding) -> str:
    subject = finding.subject
    if isinstance(subject, (ListenerSubject, DestinationSubject)):
        return endpoint(subject.address, subject.port)
    return subject.address if isinstance(subject, AddressSubject) else subject.kind


def _few(names: Iterable[str], number: int) -> str:
    """Return the first of so many names, and how many more there are."""
    first = [name for name, _ in zip(names, range(_NAMED), strict=False)]
    more = f" and {number - len(first):,} more" if number > len(first) else ""
    return ", ".join(first) + more


def _total(members: Sequence[Finding]) -> str:
    """Return "20,000 sockets in CLOSE_WAIT, 11 s to 2.1 h old"; "" where nothing adds up."""
    key = next(iter(members[0].evidence), "")
    words = _IN_ALL.get(facts.Fact(key, ""))
    if words is None:
        return ""
    found = [finding.evidence.get(key) for finding in members]
    seen = [number for number in found if isinstance(number, int)]
    least = "at least " if len(seen) < len(found) else ""
    total = f"{least}{sum(seen):,} {words}{_growth(members)}"
    evidence = members[0].evidence
    if facts.AGE_MIN not in evidence:
        return total
    youngest, oldest = _bound(members, facts.AGE_MIN), _bound(members, facts.AGE_MAX)
    age = between(min(youngest) if youngest else None, max(oldest) if oldest else None)
    return f"{total}, {age}"


def _growth(members: Sequence[Finding]) -> str:
    """Return how many are new since the first sample, as far as that was seen."""
    found = [finding.evidence.get(facts.NEW) for finding in members]
    new = sum(number for number in found if isinstance(number, int))
    return f", {new:,} of them new since the first sample" if new else ""


def _bound(members: Sequence[Finding], key: str) -> list[float]:
    """Return a bound of each of the ages, nothing where one has none."""
    bounds: list[Value] = [finding.evidence.get(key) for finding in members]
    known = [float(bound) for bound in bounds if isinstance(bound, (int, float))]
    return known if len(known) == len(bounds) else []
