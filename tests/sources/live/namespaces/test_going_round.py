"""Namespaces are looked into one after the other, the busiest first, as long as there is time."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from twdiag import sources
from twdiag.errors import SourceError
from twdiag.model.namespaces import Namespace, Usage, by_business
from twdiag.sources import OneOfMany
from twdiag.sources.live import rights
from twdiag.sources.live.namespaces.entering import inside
from twdiag.sources.live.namespaces.going_round import Visit, left_out, visit
from twdiag.sources.live.namespaces.search import find_namespaces, read_usage
from twdiag.sources.live.sockets import inet_diag
from twdiag.sources.live.sockets.inet_diag import CONNECTED
from twdiag.tcp import State

from .dwellers import dweller, leave_time_waits, listen, of, ports_listening, skip_unless_entered

if TYPE_CHECKING:
    from pathlib import Path


def test_going_round_takes_the_busiest_first_and_leaves_the_empty_out() -> None:
    with dweller(leave_time_waits) as busy, dweller(listen) as quiet, dweller() as empty:
        found = find_namespaces()
        skip_unless_entered(of(busy, found))
        mine = tuple(of(pid, found) for pid in (empty, quiet, busy))
        visits = list(visit(mine, lambda _: ports_listening(), 60))
    assert [(v.namespace.pid, v.result, v.why_not) for v in visits] == [
        (busy, {7102}, ""),
        (quiet, {7101}, ""),
    ]


def test_an_empty_namespace_that_only_a_mount_keeps_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with dweller() as pid:
        done = subprocess.run(
            ["mount", "--bind", f"/proc/{pid}/ns/net", str(path)], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip("only root may mount a namespace")
        inode = os.stat(path).st_ino
    try:
        namespace = next(n for n in find_namespaces().namespaces if n.inode == inode)
        assert list(visit((namespace,), lambda _: 1, 60)) == []
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_router_is_looked_at_though_it_has_no_socket(tmp_path: Path) -> None:
    router = Namespace("qrouter", 7, usage=Usage(0, 0, tracked=60_000))
    pod = Namespace("web", 8, usage=Usage(3, 1))
    assert by_business((Namespace("empty", 9, usage=Usage(0, 0)), router, pod)) == [pod, router]
    (tmp_path / "stat").mkdir()
    (tmp_path / "sockstat").write_text("TCP: inuse 0 orphan 0 tw 0 alloc 9 mem 0\n")
    assert read_usage(str(tmp_path)) == Usage(0, 0)
    heads = "entries clashres found new invalid ignore delete insert insert_failed drop early_drop"
    numbers = "0000ea60 00000000 " + "00000001 " * 9
    (tmp_path / "stat" / "nf_conntrack").write_text(f"{heads}\n{numbers}\n{numbers}\n")
    assert read_usage(str(tmp_path)) == Usage(0, 0, tracked=60_000)


def test_what_no_time_is_left_for_is_named() -> None:
    clock = itertools.count().__next__
    busy = [Namespace(f"n{n}", n, n, (1,), usage=Usage(n, 0)) for n in range(1, 9)]
    visits = list(visit(tuple(busy), lambda _: 1, 0.5, lambda: float(clock())))
    assert {v.why_not for v in visits} == {"time"}
    (gap,) = left_out(visits)
    assert gap.why == (
        "8 namespaces were not looked at (n8, n7, n6, n5, n4 and 3 more): no time was left"
    )
    assert gap.how == "look at one alone: --netns n8"
    assert gap.partial


def test_the_own_namespace_is_looked_at_even_without_time() -> None:
    own = Namespace("host", 1, 1, (1,), own=True)
    assert list(visit((own,), lambda _: "seen", -1.0, time.monotonic)) == [Visit(own, "seen")]


def test_a_namespace_that_cannot_be_looked_at_is_a_gap_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rights, "to_get", lambda *wanted: ", ".join(wanted))
    refused = Namespace("no", 1, 1, (2**22 + 1,), usage=Usage(9, 9))
    own = Namespace("host", 1, 1, (1,), own=True)

    def work(namespace: Namespace) -> str:
        if namespace.own:
            raise SourceError("the dump does not end")
        return "seen"

    visits = list(visit((refused, own), work, 60))
    assert [(v.namespace.label, v.why_not) for v in visits] == [
        ("host", "the dump does not end"),
        ("no", "gone"),
    ]
    assert [gap.why for gap in left_out(visits)] == [
        "1 network namespace was not looked at (host): the dump does not end"
    ]
    (gap,) = left_out([Visit(refused, None, "rights")])
    assert "no permission" in gap.why
    assert gap.how == "CAP_SYS_ADMIN, CAP_SYS_PTRACE"


def test_a_namespace_that_only_listens_is_spared_the_walk_of_all_sockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside 300,000 TIME_WAITs of others, to walk them for an idle namespace costs 28 ms."""
    walks: list[int] = []
    encode = inet_diag.encode_both_families

    def encoded(states: int, **options: bool) -> bytes:
        walks.append(states)
        return encode(states, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inet_diag, "encode_both_families", encoded)
    with dweller(listen) as idle, dweller(leave_time_waits) as busy:
        found = find_namespaces()
        skip_unless_entered(of(idle, found))
        for pid, walked in ((idle, False), (busy, True)):
            walks.clear()
            seen = inside(of(pid, found), lambda: sources.collect("auto", 0.0, OneOfMany((), 0)))
            assert any(states & CONNECTED == CONNECTED for states in walks) == walked
            assert len(seen.census.listeners) == 1
            assert seen.census.all.sockets == (5 if walked else 0)
        walks.clear()
        alone = inside(of(idle, found), lambda: sources.collect("auto", 0.0))
        assert any(states & CONNECTED == CONNECTED for states in walks)
        assert alone.census.states == {State.LISTEN: 1}
