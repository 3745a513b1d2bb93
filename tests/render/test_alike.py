"""Findings are alike only where one program, one cause and one severity were seen."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made import aged, analyze, close_wait, listening, snapshot_of
from twdiag import rules
from twdiag.model import facts
from twdiag.model.findings import (
    AddressSubject,
    Confidence,
    DestinationSubject,
    Finding,
    HostSubject,
    ListenerSubject,
    OtherEnd,
    Place,
    PortSubject,
    ProcessSubject,
    Severity,
)
from twdiag.model.namespaces import Container, Namespace
from twdiag.model.snapshot import Owner
from twdiag.render.alike import cause, groups, program
from twdiag.render.folding import folded
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.model.findings import Subject

MASTER: Final = 700


def finding(subject: Subject, **changes: Any) -> Finding:
    evidence = {facts.CLOSE_WAIT: 5, facts.AGE_MIN: 60.0, facts.AGE_MAX: 90.0}
    base = Finding(Severity.WARNING, Confidence.OBSERVED, "it leaks", subject, evidence, ())
    pid = subject.pid if isinstance(subject, ProcessSubject) else None
    return base._replace(rule="close-wait-leak", pids=(pid,) if pid else ())._replace(**changes)


def worker(pid: int, name: str = "worker", parent: int | None = MASTER, **changes: Any) -> Finding:
    return finding(ProcessSubject(pid, name, "app", parent), **changes)


def three(**changes: Any) -> list[Finding]:
    return [worker(pid, **changes) for pid in (801, 802, 803)]


def sizes(*findings: Finding) -> list[int]:
    return sorted(len(group) for group in groups(findings))


def test_three_workers_of_one_master_are_one_and_two_are_two() -> None:
    assert sizes(*three()) == [3]
    assert sizes(*three()[:2]) == [1, 1]


def test_workers_may_be_numbered() -> None:
    assert sizes(*(worker(800 + n, f"worker-{n}") for n in range(3))) == [3]


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("worker-8", "worker-*"),
        ("celery@12", "celery@*"),
        ("worker[3]", "worker[*]"),
        ("pool 7", "pool *"),
        ("python3", "python3"),
        ("python3.11", "python3.11"),
        ("java", "java"),
        ("12", "12"),
        ("", ""),
    ],
)
def test_only_a_number_behind_a_mark_is_that_of_a_worker(name: str, shared: str) -> None:
    assert program(name) == shared


@pytest.mark.parametrize(
    "others",
    [
        {"severity": Severity.CRITICAL},
        {"confidence": Confidence.INFERRED},
        {"rule": "close-wait-unread"},
        {"netns": "web"},
        {"namespace": Namespace("host", 4026532000, pids=(4711,))},
        {"place": Place.of(State.TIME_WAIT)},
        {"container": Container("docker", "ab" * 32, "web")},
        {"waits": ("pid 801 is stopped by a signal",)},
        {"other_ends": (OtherEnd("it has to close", "host", must_act=True),)},
        {"name": "clerk"},
        {"parent": 701},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_differs_stays_apart(others: dict[str, Any]) -> None:
    known = three(waits=("nobody watches them",))
    others = {"waits": ("nobody watches them",)} | others
    assert sizes(*known, *(worker(pid, **others) for pid in (811, 812, 813))) == [3, 3]


def test_whose_they_are_and_who_must_act_is_no_detail() -> None:
    other = [finding(ProcessSubject(pid, "worker", "www", MASTER)) for pid in (11, 12, 13)]
    assert sizes(*three(), *other) == [3, 3]
    here, there = (OtherEnd("an end", "host", must_act=must) for must in (False, True))
    assert sizes(*three(other_ends=(here,)), *three(other_ends=(there,))) == [3, 3]
    curl, wget = (
        here._replace(process=Owner(5, name, "app"), must_act=True) for name in ("curl", "wget")
    )
    assert sizes(*three(other_ends=(curl,)), *three(other_ends=(wget,))) == [3, 3]


def test_services_of_one_name_are_programs_of_their_own() -> None:
    assert sizes(*(worker(pid, "java", parent=1) for pid in (11, 12, 13))) == [1, 1, 1]
    assert sizes(*(worker(pid, "java", parent=pid + 50) for pid in (11, 12, 13))) == [1, 1, 1]


def test_what_was_not_seen_is_not_alike() -> None:
    assert sizes(*three(parent=None)) == [1, 1, 1]
    unseen = finding(ProcessSubject(None, "unseen process", "uid 33"))
    assert sizes(unseen, unseen, unseen) == [1, 1, 1]
    servers = [finding(ListenerSubject("0.0.0.0", port)) for port in (80, 81, 82)]
    assert sizes(*servers) == [1, 1, 1]


def test_a_master_is_one_with_its_workers() -> None:
    master = worker(MASTER, "gunicorn", parent=1)
    assert sizes(master, *three(name="gunicorn")) == [4]
    assert sizes(master._replace(subject=ProcessSubject(MASTER, "init", "app", 1)), *three()) == [
        1,
        3,
    ]


def test_the_children_of_a_supervisor_are_alike_if_they_run_the_same() -> None:
    def running(*scripts: str) -> list[Finding]:
        subjects = (
            ProcessSubject(11 + at, "python3", "app", MASTER, script)
            for at, script in enumerate(scripts)
        )
        return [finding(subject) for subject in subjects]

    assert sizes(*running("app.py", "app.py", "app.py")) == [3]
    assert sizes(*running("orders.py", "mails.py", "bills.py")) == [1, 1, 1]
    assert sizes(*running("", "", "")) == [3]


def test_a_circle_of_parents_ends() -> None:
    circle = [worker(10, parent=11), worker(11, parent=12), worker(12, parent=10)]
    assert sum(sizes(*circle)) == 3


def test_descriptors_of_different_kinds_are_different_troubles() -> None:
    def near(pid: int, kind: str) -> Finding:
        evidence = {facts.FDS: 900, facts.LOOKED: 900, facts.FILES: 10, facts.PIPES: 10}
        return worker(pid, rule="fd-limit-near", evidence=evidence | {kind: 800}, place=None)

    files = [near(pid, facts.FILES) for pid in (1001, 1002, 1003)]
    pipes = [near(pid, facts.PIPES) for pid in (1004, 1005, 1006)]
    assert sizes(*files, *pipes) == [3, 3]


def test_listeners_of_one_program_are_one() -> None:
    def served(port: int, pid: int, name: str = "nginx") -> Finding:
        return finding(ListenerSubject("0.0.0.0", port, (Owner(pid, name, "www", parent=1),)))

    assert sizes(*(served(port, 9) for port in (80, 81, 82))) == [3]
    assert sizes(*(served(port, port) for port in (80, 81, 82))) == [1, 1, 1]


def to(address: str, port: int, **changes: Any) -> Finding:
    return finding(DestinationSubject("10.0.0.1", address, port), **changes)


def test_destinations_are_one_by_their_port_and_else_by_their_address() -> None:
    pods = [to(f"10.2.0.{n}", 8080) for n in range(5)]
    shards = [to("10.3.0.1", 9000 + n) for n in range(4)]
    others = [to("10.4.0.1", 5432), to("10.5.0.1", 6379)]
    assert sizes(*pods, *shards, *others) == [1, 1, 4, 5]


def test_destinations_of_different_programs_stay_apart() -> None:
    def by(name: str, n: int) -> Finding:
        evidence = {facts.USED: 90, facts.LIKELY_PROCESSES: [name]}
        return to(f"10.2.0.{n}", 8080, evidence=evidence)

    assert sizes(*(by("envoy", n) for n in range(3)), *(by("curl", n) for n in range(4))) == [3, 4]


def test_the_host_and_ports_are_never_alike_and_addresses_are() -> None:
    assert sizes(*[finding(HostSubject())] * 3) == [1, 1, 1]
    assert sizes(*(finding(PortSubject(n)) for n in range(3))) == [1, 1, 1]
    assert sizes(*(finding(AddressSubject(f"10.0.0.{n}")) for n in range(3))) == [3]


# Causes.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("all 4 workers wait for the upstream", "3 of 4 workers wait for the upstream"),
        ("nobody watches any of 5 sockets: it", "nobody watches 1,039 of 2,000 sockets: it"),
        (
            "for a child process each, pid 17 and 3 more",
            "for a child process each, pid 9 and 2 more",
        ),
    ],
)
def test_numbers_do_not_make_another_cause(one: str, other: str) -> None:
    assert cause(one) == cause(other)


def test_another_upstream_is_another_cause() -> None:
    assert cause("workers wait for 10.0.0.5:5432") != cause("workers wait for 10.0.0.6:5432")
    assert cause("workers wait for db1") != cause("workers wait for db2")


def test_those_that_nobody_asked_are_told_with_most_of_the_asked() -> None:
    asked = [worker(n, waits=("nobody watches them",)) for n in range(1, 8)]
    asked.insert(0, worker(20, waits=("pid 20 is stopped",)))
    unasked = [worker(n) for n in range(100, 180)]
    found = groups([*asked, *unasked])
    assert sorted(map(len, found)) == [1, 87]
    assert sum(bool(f.waits) for f in max(found, key=len)) == 7


def test_those_that_nobody_asked_stay_apart_where_causes_differ() -> None:
    asked = [worker(n, waits=(f"waits for db{n}",)) for n in range(1, 5)]
    assert sizes(*asked, *(worker(n) for n in range(100, 110))) == [1, 1, 1, 1, 10]


# Whatever is found.

SUBJECTS: Final = st.one_of(
    st.builds(
        ProcessSubject,
        st.none() | st.integers(2, 40),
        st.sampled_from(["worker-1", "worker-2", "java"]),
        st.sampled_from(["app", "www"]),
        st.none() | st.integers(0, 40),
    ),
    st.builds(
        DestinationSubject,
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        st.sampled_from(["10.2.0.1", "10.2.0.2", "10.2.0.3"]),
        st.sampled_from([80, 443, 5432]),
    ),
    st.builds(
        ListenerSubject,
        st.just("0.0.0.0"),
        st.integers(80, 90),
        st.sampled_from([(), (Owner(5, "nginx", "www", parent=1),)]),
    ),
    st.builds(HostSubject),
)


@st.composite
def reports(draw: st.DrawFn) -> tuple[Finding, ...]:
    found = [
        finding(
            draw(SUBJECTS),
            rule=draw(st.sampled_from(["close-wait-leak", "fd-limit-near"])),
            severity=draw(st.sampled_from([*Severity][1:])),
            netns=draw(st.sampled_from(["host", "host", "a", "b"])),
            evidence={facts.CLOSE_WAIT: draw(st.none() | st.integers(1, 50))},
            waits=draw(st.sampled_from([(), (), ("stopped",), ("nobody reads",)])),
        )
        for _ in range(draw(st.integers(0, 40)))
    ]
    return tuple(sorted(found, key=lambda f: -f.severity))


def total(findings: Sequence[Finding]) -> int:
    return sum(int(str(f.evidence[facts.CLOSE_WAIT] or 0)) for f in findings)


@given(reports())
def test_nothing_is_lost_and_nothing_worse_comes_later(findings: tuple[Finding, ...]) -> None:
    told = folded(findings)
    members = [one for group in told for one in group.members]
    assert Counter(map(id, members)) == Counter(map(id, findings))
    assert sum(total(group.members) for group in told) == total(findings)
    assert {pid for f in members for pid in f.pids} == {pid for f in findings for pid in f.pids}
    places = {id(one): place for place, one in enumerate(findings)}
    firsts = [places[id(group.worst)] for group in told]
    assert firsts == sorted(firsts)
    for group in told:
        order = [places[id(one)] for one in group.members]
        assert order == sorted(order)
        assert group.worst.severity == max(one.severity for one in group.members)
        if group.namespaces == 1:
            assert len({(f.rule, f.severity, f.netns, type(f.subject)) for f in group.members}) == 1
            assert len({f.waits for f in group.members if f.waits}) <= 1
        assert group.summary()
        assert group.located(numbers=False)


def test_a_fold_costs_little_beside_what_is_folded() -> None:
    sockets, owners = [], {}
    for n in range(1000):
        for i, socket in enumerate(aged(close_wait(5), 120)):
            inode = 1000 + 5 * n + i
            sockets.append(socket._replace(inode=inode, cookie=inode, remote_port=n + 1))
            owners[inode] = (Owner(5000 + n, f"worker-{n}", "app", 9, 1024, MASTER),)
    snapshot = snapshot_of(listening(8080), *sockets, owners=owners)
    began = time.perf_counter()
    report = analyze(snapshot, rules.DEFAULTS)
    judged = time.perf_counter() - began
    assert len(report.findings) == 1000
    folds = []
    for _ in range(5):
        began = time.perf_counter()
        told = folded(report.findings)
        folds.append(time.perf_counter() - began)
    assert len(told) == 1
    assert min(folds) < judged / 4
    print(f"a fold takes {min(folds) / judged:.3f} of judging")
