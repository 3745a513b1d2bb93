"""Many processes and destinations in the same trouble, on real sockets: one line for a person."""

from __future__ import annotations

import io
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from twdiag import lab, rules
from twdiag.check.metrics import measure
from twdiag.check.verdict import Ranges, judge
from twdiag.engine.look import Question, look_closely
from twdiag.errors import SourceRefused
from twdiag.lab import actors
from twdiag.lab.actors import PORT, Program, meet
from twdiag.lab.network import MAIN_ADDRESS
from twdiag.lab.scenarios.workers import halt, wait_for_state
from twdiag.model.findings import ProcessSubject, Severity
from twdiag.render.folding import folded
from twdiag.render.nagios import render_nagios
from twdiag.render.pieces import Detail, Look
from twdiag.render.text import render_text
from twdiag.tcp import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from twdiag.check.verdict import Answer
    from twdiag.lab import Stage
    from twdiag.model.findings import Report
    from twdiag.render.folding import Folded

WORKERS: Final = 40
CLERKS: Final = 12
KEPT: Final = 6
MOST: Final = 9
ASKED: Final = 20
"""Of how many findings the causes are sought."""

DESTINATIONS: Final = 30
LIMITS: Final = rules.DEFAULTS.replaced({"close-wait-age": 1}, "test")


class Seen(NamedTuple):
    """What the product says of a stage."""

    report: Report
    values: dict[str, float | None]

    @property
    def answer(self) -> Answer:
        """What a check makes of it."""
        return judge(self.report, self.values, Ranges(), Severity.NOTICE)

    @property
    def told(self) -> list[Folded]:
        """The findings as a person is told of them."""
        return folded(self.report.findings)

    def screen(self, **look: object) -> str:
        """Return the report as text."""
        out = io.StringIO()
        render_text(self.report, out, Look(**look))  # type: ignore[arg-type]
        return out.getvalue()

    def plugin(self, verbosity: int) -> list[str]:
        """Return the lines of a check."""
        out = io.StringIO()
        render_nagios(self.answer, out, verbosity)
        return out.getvalue().splitlines()


def look(_: Stage) -> Seen:
    report, view = look_closely(Question(limits=LIMITS))
    return Seen(report, dict(measure(view)))


def played(build: Callable[[Stage], None], settle: float) -> Seen:
    scenario = lab.Scenario("crowd", "", "", build, settle=settle)
    try:
        return lab.play(scenario, look)
    except SourceRefused as error:
        pytest.skip(f"{error.what}; {error.next_step}")


def crowd(stage: Stage) -> None:
    """Let forty workers and twelve clerks leak, the worst of them stopped; one worker is fine."""
    stage.peer()
    client = Program(stage, "client", peer=True)
    leaking = [("worker-0", MOST)]
    leaking += [(f"worker-{n}", KEPT) for n in range(1, WORKERS)]
    # Fewer each: of equals the first of a screen is whichever has the lowest inode.
    leaking += [(f"clerk-{n}", KEPT - 1) for n in range(CLERKS)]
    programs = []
    for number, (name, kept) in enumerate(leaking):
        program = Program(stage, name)
        program.do(actors.listen, MAIN_ADDRESS, PORT + number)
        meet(client, program, kept, MAIN_ADDRESS, PORT + number)
        programs.append(program)
    client.do(actors.close)
    for program in programs:
        program.do(actors.drain)
    programs[0].do(halt)
    wait_for_state(stage, "worker-0", "T")
    fine, stays = Program(stage, f"worker-{WORKERS}"), Program(stage, "client", peer=True)
    fine.do(actors.listen, MAIN_ADDRESS, PORT - 1)
    meet(stays, fine, KEPT, MAIN_ADDRESS, PORT - 1)
    stage.wait_for({State.CLOSE_WAIT: sum(kept for _, kept in leaking), State.ESTABLISHED: KEPT})


@pytest.fixture(scope="module")
def workers() -> Seen:
    return played(crowd, settle=1.5)


def test_many_workers_with_one_leak_are_one_finding_to_a_person(workers: Seen) -> None:
    assert {f.rule for f in workers.report.findings} == {"close-wait-leak"}
    assert len(workers.report.findings) == WORKERS + CLERKS
    assert sorted(group.findings for group in workers.told) == [1, CLERKS, WORKERS - 1]
    by_size = {group.findings: group.summary() for group in workers.told}
    assert by_size[WORKERS - 1].startswith("worker-* (39 processes, pids ")
    assert f" and 36 more): {(WORKERS - 1) * KEPT} sockets in CLOSE_WAIT, " in by_size[WORKERS - 1]
    assert by_size[CLERKS].startswith("clerk-* (12 processes, pids ")


def test_the_worst_with_another_cause_stands_alone_and_first(workers: Seen) -> None:
    first = workers.told[0]
    assert isinstance(first.worst.subject, ProcessSubject)
    assert first.worst.subject.name == "worker-0"
    assert first.findings == 1
    assert "is stopped by a signal" in first.waits


def test_a_worker_in_order_is_not_among_them(workers: Seen) -> None:
    names = {f.subject.name for f in workers.report.findings if hasattr(f.subject, "name")}
    assert f"worker-{WORKERS}" not in names
    assert len(names) == WORKERS + CLERKS


def test_what_was_seen_of_a_few_is_not_said_of_all(workers: Seen) -> None:
    looked_at = [sum(bool(f.waits) for f in group.members) for group in workers.told]
    assert sum(looked_at) == ASKED
    for group, number in zip(workers.told[1:], looked_at[1:], strict=True):
        said = f"{number} of {group.findings} looked at: " if number else ""
        if number == group.findings:
            said = f"all {number} looked at: "
        assert group.waits.startswith(said)
        assert bool(group.waits) == bool(number)
    gap = f"what the processes of {WORKERS + CLERKS - ASKED} more findings wait for was not looked"
    assert any(gap in found.why for found in workers.report.gaps)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_it_is_one_screen(workers: Seen, width: int) -> None:
    lines = workers.screen(width=width, height=24, unicode=width != 60).splitlines()
    assert len(lines) < 24
    assert all(
        len(line) <= width or line.split()[0] in ("now", "see", "twdiag") for line in lines if line
    )
    assert [line[:3] for line in lines if line[:3].strip().isdigit()][:2] == [" 1 ", " 2 "]
    # Where a line ends depends on how long the pids are.
    assert "worker-* (39 processes, pids " in " ".join(
        word for line in lines for word in line.split()
    )


def test_a_pipe_has_a_few_lines_and_full_has_each(workers: Seen) -> None:
    assert len(workers.screen().splitlines()) < 30
    brief = workers.screen(detail=Detail.BRIEF)
    assert brief.count("close-wait-leak: ") == WORKERS + CLERKS


def test_a_check_counts_problems_as_a_person_does(workers: Seen) -> None:
    for verbosity, lines in ((0, 1), (1, 4)):
        said = workers.plugin(verbosity)
        assert len(said) == lines
        assert said[0].partition(" | ")[0].endswith(" (+2 more)")
        assert len(said[0].partition(" | ")[0]) < 80
    assert f"close_wait={MOST + (WORKERS - 1) * KEPT + CLERKS * (KEPT - 1)};" in said[0]
    assert sum("worker-* (39 processes, pids " in line for line in said) == 1
    assert len(workers.answer.problems) == WORKERS + CLERKS


def masters(stage: Stage) -> None:
    """Let twelve workers of one name leak up to their descriptor limit."""
    stage.peer()
    client = Program(stage, "client", peer=True)
    programs = [Program(stage, "gunicorn") for _ in range(CLERKS)]
    for number, program in enumerate(programs):
        program.do(actors.limit_descriptors, 32)
        program.do(actors.listen, MAIN_ADDRESS, PORT + number)
        meet(client, program, 24, MAIN_ADDRESS, PORT + number)
    client.do(actors.close)
    for program in programs:
        program.do(actors.drain)
    stage.wait_for({State.CLOSE_WAIT: 24 * CLERKS})


def test_workers_of_one_master_near_their_limits_are_one_finding_to_a_person() -> None:
    seen = played(masters, settle=1.5)
    found = Counter(finding.rule for finding in seen.report.findings)
    assert found == {"fd-limit-near": CLERKS, "close-wait-leak": 1}
    said = {group.worst.rule: group.summary() for group in seen.told}
    assert len(said) == len(seen.told) == 2
    assert said["fd-limit-near"].startswith("gunicorn (12 processes, pids ")
    assert f": {24 * CLERKS} sockets in CLOSE_WAIT, " in said["fd-limit-near"]
    assert said["close-wait-leak"].startswith(f"gunicorn (12 processes) holds {24 * CLERKS} ")


def calls(stage: Stage) -> None:
    """Take 15 of 20 ports to each of thirty destinations, 19 to one more, 3 to another."""
    stage.sysctl("net.ipv4.ip_local_port_range", "40000 40019")
    server, client = Program(stage, "server"), Program(stage, "client")
    server.do(actors.listen, "0.0.0.0")
    connect = partial(meet, client, server)
    for number in range(1, DESTINATIONS + 1):
        connect(15, f"127.1.0.{number}")
    connect(19, "127.2.0.1")
    connect(3, "127.3.0.1")


@pytest.fixture(scope="module")
def destinations() -> Seen:
    return played(calls, settle=0.0)


def test_many_destinations_short_of_ports_are_one_finding_beside_a_worse_one(
    destinations: Seen,
) -> None:
    assert {f.rule for f in destinations.report.findings} == {"ports-running-out"}
    worst, many = destinations.told
    assert (worst.worst.severity, worst.findings) == (Severity.CRITICAL, 1)
    assert (many.worst.severity, many.findings) == (Severity.WARNING, DESTINATIONS)
    assert many.summary().startswith("30 destinations (127.1.0.")
    assert " and 27 more): 450 ports in use; the worst: 127.1.0." in many.summary()
    assert "127.3.0.1" not in str(destinations.report.findings)


def test_a_check_of_destinations(destinations: Seen) -> None:
    first, _, second = destinations.plugin(1)[:3]
    assert first.startswith("TWDIAG CRITICAL - 127.2.0.1:8080 19 of 20 ports used (+1 more) | ")
    assert second.startswith("WARNING: ports-running-out: 30 destinations (127.1.0.")
    alone = destinations.answer._replace(problems=destinations.answer.problems[1:])
    out = io.StringIO()
    render_nagios(alone, out)
    line = out.getvalue().partition(" | ")[0]
    assert line.startswith("TWDIAG WARNING - 30 destinations, the worst 127.1.0.")
    assert line.endswith(" 15 of 20 ports used")
