"""The whole host from the command line: with every right, with one less, with none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.engine.village import Village, alone
from tests.running import NOBODY, Said, forked, process

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSES_FIRST = "server-closes-first"


def beside_a_server(work: Callable[[Village], Said], houses: int = 1) -> tuple[Said, list[str]]:
    """Return what some work says on a host where servers in other namespaces close first.

    The names of the namespaces come with it, the busiest first.
    """

    def looked(village: Village) -> tuple[Said, list[str]]:
        names = []
        for number in range(houses):
            house = village.house()
            server = village.move_in(f"web{number}", house)
            client = village.move_in(f"cli{number}", house)
            village.closed_first(house, server, client, 60 - number)
            names.append(f"web{number} (pid {village.pid(f'web{number}')})")
        return work(village), names

    return alone(looked)


def found(said: Said) -> list[tuple[str, str]]:
    return [(f["rule"], f["netns"]) for f in json.loads(said.out)["findings"]]


def test_all_namespaces_are_looked_at_unless_one_is_asked_for() -> None:
    said, (web,) = beside_a_server(lambda _: forked("--json"))
    assert found(said) == [(CLOSES_FIRST, web)]
    report = json.loads(said.out)
    (finding,) = report["findings"]
    pid = int(web.partition("pid ")[2].rstrip(")"))
    assert finding["namespace"]["pid"] == pid
    assert finding["namespace"]["name"] == web
    assert finding["namespace"]["inode"] > 0
    assert finding["container"] is None
    here, there = report["namespaces"]
    assert (here["own"], there["own"], there["outside"]) == (True, False, False)
    assert (there["name"], there["sockets"], there["findings"]) == (web, 61, 1)

    said, _ = beside_a_server(lambda _: forked("--this-netns", "--json"))
    report = json.loads(said.out)
    assert report["findings"] == []
    assert report["namespaces"] == []
    (gap,) = report["gaps"]
    assert gap["why"] == "1 other network namespace (containers?) was not looked at"


@pytest.mark.parametrize(
    "words",
    [
        ("--this-netns", "--all-netns"),
        ("--netns", "1", "--all-netns"),
        ("--netns", "1", "--this-netns"),
    ],
)
def test_one_place_to_look_at_excludes_the_other(words: tuple[str, ...]) -> None:
    said = forked(*words)
    assert said.code == 3
    assert "exclude each other" in said.err
    assert len(said.err.splitlines()) == 2


@pytest.mark.parametrize(
    "right", ["sys_admin", "sys_ptrace", "dac_read_search", "dac_override", "net_admin", "setuid"]
)
def test_a_right_less_hides_nothing_without_saying_so(right: str, open_twdiag: str) -> None:
    without = ("setpriv", "--bounding-set", f"-{right}")
    said, (web,) = beside_a_server(lambda _: process(*without, open_twdiag, "--json"))
    assert (said.code, said.err) == (0, "")
    assert found(said) == [(CLOSES_FIRST, web)]
    report = json.loads(said.out)
    outside = any(looked["outside"] for looked in report["namespaces"])
    assert outside == (right in ("sys_admin", "sys_ptrace"))
    assert outside == any("read from outside" in gap["why"] for gap in report["gaps"])


def test_without_any_right_the_same_is_found_from_outside(open_twdiag: str) -> None:
    def work(_: Village) -> Said:
        return process(*NOBODY, open_twdiag, env={"PATH": "/usr/bin:/bin", "PYTHONUTF8": "1"})

    said, (web,) = beside_a_server(work)
    assert (said.code, said.err) == (0, "")
    assert f"NOTICE  in {web}: " in said.out
    assert "1 namespace was read from outside" in said.out
    assert "run as root" in said.out


def named(village: Village, name: str) -> None:
    """Name the namespace of a new server as `ip netns add` does it, in a /run of this test's."""
    house = village.house()
    server, client = village.move_in("web", house), village.move_in("client", house)
    village.closed_first(house, server, client, 30)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/netns").mkdir()
    file = Path("/run/netns", name)
    file.touch()
    subprocess.run(["mount", "--bind", f"/proc/{village.pid('web')}/ns/net", file], check=True)


def test_a_namespace_that_may_not_be_entered_is_not_said_to_be_missing(open_twdiag: str) -> None:
    def work(village: Village) -> Said:
        named(village, "blue")
        return process(*NOBODY, open_twdiag, "sockets", "--netns", "blue")

    said = alone(work)
    assert said.code == 3
    assert "no permission to enter the network namespace of blue" in said.err
    assert "run as root" in said.err


def test_another_namespace_that_is_called_host_is_not_taken_for_this_one() -> None:
    def work(village: Village) -> Said:
        named(village, "host")
        return forked("--brief")

    said = alone(work)
    assert f"{CLOSES_FIRST}: in host (another): web on " in said.out


@pytest.mark.parametrize("word", ["", ".", "..", "run", "netns"])
def test_no_part_of_a_path_is_a_name(word: str) -> None:
    def work(village: Village) -> Said:
        named(village, "host")
        return forked("port", "8080", "--netns", word)

    said = alone(work)
    assert said.code == 3
    assert "there is no network namespace" in said.err


def test_a_check_looks_at_its_own_namespace_unless_asked() -> None:
    said, _ = beside_a_server(lambda _: forked("check", "--warn-on", "notice"))
    assert said.code == 0
    assert "namespace" not in said.out


def check_all(*words: str) -> Callable[[Village], Said]:
    return lambda _: forked("check", "--all-netns", "--warn-on", "notice", *words)


def test_a_check_of_all_namespaces_names_the_worst_and_keeps_its_perfdata() -> None:
    alike, _ = beside_a_server(lambda _: forked("check"))
    said, (web, _) = beside_a_server(check_all(), houses=2)
    assert said.code == 1
    assert said.out.startswith(f"TWDIAG WARNING - in {web.partition(' (')[0]}")
    assert "(+1 more)" in said.line
    assert len(said.line) < 80
    assert said.perfdata.keys() == alike.perfdata.keys()
    assert said.perfdata["time_wait"].startswith("0;")


def test_a_check_in_a_container_judges_what_it_sees_and_says_what_it_does_not() -> None:
    # A PID namespace of its own hides what may be beside it.
    said, _ = beside_a_server(lambda _: forked("check", "--all-netns", "-vv"))
    assert said.code == 0
    # What was looked at, that there may be more, and the numbers: a namespace was mounted here.
    assert said.line.startswith("TWDIAG OK - 0 TIME_WAIT, 0 CLOSE_WAIT, ")
    assert " 2 namespaces, others hidden" in said.line
    assert len(said.line) < 80
    assert "NOT SEEN: namespaces beside this container are hidden" in said.out
    assert "run on the host itself" in said.out


def test_a_check_that_may_not_enter_a_namespace_judges_the_others(open_twdiag: str) -> None:
    def work(village: Village) -> Said:
        named(village, "blue")
        for name in ("web", "client"):  # only the mount keeps it, and a descriptor of this process
            os.kill(village.pid(name), signal.SIGKILL)
        house = village.house()
        server, client = village.move_in("seen", house), village.move_in("client2", house)
        village.closed_first(house, server, client, 30)
        words = ("check", "--all-netns", "-v", "--warn-on", "notice")
        without = ("setpriv", "--bounding-set", "-sys_admin")
        return process(*without, open_twdiag, *words)

    said = alone(work)
    assert said.code == 1
    assert said.out.startswith("TWDIAG WARNING - in seen ")
    assert "NOT SEEN: 1 network namespace was not looked at (blue): no permission" in said.out


def test_a_check_that_had_no_time_for_a_namespace_is_unknown() -> None:
    said, _ = beside_a_server(check_all("--timeout", "0.1"))
    assert said.code == 3


def test_the_series_of_a_check_of_all_namespaces_are_few_and_have_no_number() -> None:
    said, names = beside_a_server(check_all("--format", "prometheus"), houses=24)
    samples = [s for f in text_string_to_metric_families(said.out) for s in f.samples]
    labels = {s.labels["namespace"] for s in samples if "namespace" in s.labels}
    assert "pid" not in said.out
    assert "other" in labels
    # The twenty with the most sockets, the twenty worst findings, and all others together.
    assert labels <= {"host", "other", *(name.partition(" (")[0] for name in names)}
    findings = [s for s in samples if s.name == "twdiag_finding"]
    assert sum(s.value for s in findings) == 24
    assert len(findings) == 21
    sockets = [s for s in samples if s.name == "twdiag_namespace_sockets"]
    assert len(sockets) == 21
    assert sum(s.value for s in sockets) == sum(61 - number for number in range(24))


def test_what_is_alike_in_many_namespaces_is_one_line_and_whole_in_json() -> None:
    shown, names = beside_a_server(lambda _: forked(), houses=4)
    lines = [line for line in shown.out.splitlines() if CLOSES_FIRST in line]
    assert lines[0] == f" 1 NOTICE   {CLOSES_FIRST} in 4 namespaces; the worst, in {names[0]}"
    assert len([line for line in lines if line.startswith(" ")]) == 2  # and `twdiag explain`
    for words in (("--json",), ("--full",), ("--brief",)):
        said, names = beside_a_server(lambda _, words=words: forked(*words), houses=4)  # type: ignore[misc]
        assert all(name in said.out for name in names)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("{} --all-netns 2>&-", 0),
        ("{} check --all-netns >/dev/full", 3),
        ("{} check --all-netns --timeout 0.1", 3),
        ("{} check --netns 1", 3),
    ],
)
def test_what_keeps_it_from_looking_or_speaking_is_no_alarm(command: str, code: int) -> None:
    def work(_: Village) -> Said:
        return process("bash", "-c", command.format(f"{sys.executable} -m twdiag"))

    said, _ = beside_a_server(work)
    assert said.code == code
    assert "Traceback" not in said.out + said.err


HOSTILE = "\x1b[31m|;$(x)\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--full",),
        ("--brief",),
        ("--json",),
        ("check", "--all-netns", "-vv", "--warn-on", "notice"),
        ("check", "--all-netns", "--format", "prometheus"),
        ("check", "--all-netns", "--format", "checkmk", "-v", "--warn-on", "notice"),
    ],
)
def test_the_name_of_a_namespace_acts_on_nobody(words: tuple[str, ...]) -> None:
    def work(village: Village) -> Said:
        house = village.house()
        server, client = village.move_in(HOSTILE, house), village.move_in("client", house)
        village.closed_first(house, server, client, 30)
        return forked(*words)

    said = alone(work)
    assert "\x1b" not in said.out + said.err
    assert CLOSES_FIRST in said.out
    if words[:1] == ("check",) and "prometheus" not in words:
        assert "31m" in said.out
        assert "$(" not in said.out


@pytest.mark.parametrize("name", ["a b", "it's; $(x)", "\x1b[31m1\n\u202e"])
def test_what_is_advised_for_a_namespace_of_any_name_can_be_pasted(name: str) -> None:
    def work(village: Village) -> tuple[str, list[Said]]:
        named(village, name)
        for one in ("web", "client"):  # with a process its number would do
            os.kill(village.pid(one), signal.SIGKILL)
        shown = forked("--full").out
        begins = [shown.index(word) for word in ("twdiag sockets --rule", "nsenter --net=")]
        pasted = [shown[at:].splitlines()[0].strip() for at in begins]
        lets = f'twdiag() {{ {sys.executable} -m twdiag "$@"; }}; '
        return shown, [process("bash", "-c", lets + command) for command in pasted]

    shown, (rows, ss) = alone(work)
    assert "\x1b" not in shown
    assert (rows.code, rows.err) == (0, "")
    assert rows.out.count("TIME_WAIT") >= 30
    assert (ss.code, ss.err) == (0, "")
    assert ss.out.count(":8080") >= 30
