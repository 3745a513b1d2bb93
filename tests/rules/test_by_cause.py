"""What is advised never contradicts the cause that the line before has named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.made import only_finding
from tests.rules.test_sockets_nobody_sees import crowded
from twdiag.analysis.inherited import Inherited
from twdiag.analysis.successors import Replaced
from twdiag.model.findings import Confidence, Finding, ProcessSubject
from twdiag.model.namespaces import Container
from twdiag.model.waits import Cause, Conclusion, EndRole, FarEnd
from twdiag.rules import close_wait_unread
from twdiag.rules.by_cause import CONCERNED, Reason, told
from twdiag.wording import command_in

if TYPE_CHECKING:
    from tests.conftest import Played

# A scenario that leads to a finding of each rule that blames a process.
SCENARIOS: Final = {
    "accept-queue-full": "accept-queue-full",
    "close-wait-leak": "close-wait-leak",
    "close-wait-never-accepted": "close-wait-never-accepted",
    "close-wait-unread": "close-wait-unread",
    "fd-limit-near": "fd-limit",
    "idle-established-leak": "idle-established-leak",
    "peer-never-closes": "half-close",
}
RULES: Final = frozenset({*SCENARIOS, "sockets-nobody-sees"})
UPSTREAM = FarEnd(EndRole.UPSTREAM, "10.0.0.5", 5432, "postgres")
CLIENT = FarEnd(EndRole.CLIENT, None, None, "")
HELPER = Inherited(443, "sleep", 441, 5, 0, Confidence.INFERRED, "", "server", by_exec=True)
OLD = Replaced(446, "server", 448, "server", 8080)

STUCK = r"stack dump|\bstuck\b|out of workers"
HUNT = r"code path|what leaks|stops watching"
RESTART = r"[Rr]estart the (process|server)"
SLOW = r"too slowly|backlog"
BLAME = r"idle timeout|raise its limit|read timeout after|one pool"
# What must not be said where a cause is known, and what has to be.
TOLD: Final = {
    Cause.STOPPED: (f"{STUCK}|{HUNT}|{RESTART}|{SLOW}|{BLAME}", "Ask who stopped it"),
    Cause.TRACED: (f"{STUCK}|{HUNT}|{RESTART}|{SLOW}|{BLAME}", "detach"),
    Cause.FROZEN: (f"{STUCK}|{HUNT}|{RESTART}|{SLOW}|{BLAME}", "Ask who paused it"),
    Cause.INHERITED: (f"{STUCK}|{HUNT}|{RESTART}|{SLOW}|{BLAME}", r"\(kill 443\)$"),
    Cause.DISK: (f"stack dump|{HUNT}|{RESTART}|{SLOW}|{BLAME}", "disk or the NFS"),
    Cause.CONFIGURED: (f"{STUCK}|{HUNT}", "option abortonclose"),
    Cause.UPSTREAM: (f"where the process is stuck|code path|{SLOW}", "postgres at 10.0.0.5:5432"),
    Cause.CHILD: (f"where the process is stuck|code path|{SLOW}", "child process"),
    Cause.BUSY: (f"where the process is stuck|code path|{SLOW}", "clients that send nothing"),
    Cause.FORGOTTEN: (STUCK, ""),
    Cause.NOT_ACCEPTING: (SLOW, ""),
    Cause.LOCKED: (f"code path|{SLOW}", ""),
    Cause.ELSEWHERE: (f"code path|{SLOW}", ""),
    Cause.PEER: (SLOW, ""),
}
ENDS: Final = {Cause.UPSTREAM: UPSTREAM, Cause.BUSY: CLIENT}
# Only the programs' own statements answer these; a rule about other things keeps its own advice.
_ABOUT_LISTENERS: Final = {"accept-queue-full", "close-wait-never-accepted"}
_OTHER_END: Final = "Look at the other end"


def reason_of(cause: Cause) -> Reason:
    sentence = "HAProxy keeps clients that gave up" if cause is Cause.CONFIGURED else "why"
    conclusion = Conclusion(cause, Confidence.OBSERVED, sentence, ENDS.get(cause), 443)
    return Reason(conclusion, HELPER if cause is Cause.INHERITED else None)


def texts(finding: Finding) -> list[str]:
    """Return each piece of advice of a finding and why it matters, in words."""
    return [finding.why, *(f"{a.do}\n{a.how}" for a in finding.advice)]


def possible(rule: str, cause: Cause) -> bool:
    """Say whether a cause can be concluded for the sockets of a rule."""
    if rule == "sockets-nobody-sees":
        return cause in (Cause.STOPPED, Cause.TRACED, Cause.FROZEN)
    if rule in _ABOUT_LISTENERS:
        return cause not in (Cause.INHERITED, Cause.FORGOTTEN, Cause.CONFIGURED, Cause.PEER)
    if cause is Cause.CONFIGURED:
        return rule in ("close-wait-leak", "close-wait-unread", "fd-limit-near")
    return cause is not Cause.NOT_ACCEPTING


PAIRS: Final = [(r, c) for r in sorted(RULES) for c in Cause if possible(r, c)]


@pytest.fixture(scope="module")
def findings(played: dict[str, Played]) -> dict[str, Finding]:
    """One finding of each rule, as the rule alone tells it."""
    played_findings = [f for name in SCENARIOS.values() for f in played[name].report.findings]
    # Not from the lab: where many namespaces are busy, what is in no table stays unknown.
    own = only_finding(crowded(70, 32), "sockets-nobody-sees")
    return {finding.rule: finding for finding in (*played_findings, own)}


def test_each_rule_and_each_cause_is_in_the_table() -> None:
    assert RULES == CONCERNED
    assert TOLD.keys() == set(Cause)


@pytest.mark.parametrize(("rule", "cause"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_no_advice_contradicts_the_cause(
    rule: str, cause: Cause, findings: dict[str, Finding]
) -> None:
    finding = findings[rule]
    if cause is Cause.CONFIGURED:
        # The lab has no HAProxy: its statements stand where the rule has put them.
        own = ProcessSubject(443, "haproxy", "root")
        finding = finding._replace(subject=own)
    said = texts(told(finding, reason_of(cause)))
    never, once = TOLD[cause]
    assert not [text for text in said if re.search(never, text)]
    assert any(re.search(once, text, re.MULTILINE) for text in said)
    assert len(said) > 1


@pytest.mark.parametrize("rule", sorted(RULES - _ABOUT_LISTENERS))
def test_an_old_worker_is_ended_and_its_service_left_alone(
    rule: str, findings: dict[str, Finding]
) -> None:
    finding = told(findings[rule], Reason(None, replaced=OLD))
    said = texts(finding)
    assert not [text for text in said if re.search(f"{STUCK}|{RESTART}|{BLAME}", text)]
    assert finding.advice[0].do == "End the old worker server (kill 446)"
    assert "pid 448" in finding.advice[0].how
    assert "time limit after a reload" in finding.advice[1].do


def test_a_name_that_reads_like_a_command_is_quoted(findings: dict[str, Finding]) -> None:
    evil, finding = "x: kill -9 1", findings["close-wait-leak"]
    child = HELPER._replace(name=evil, parent_name=evil)
    inherited = reason_of(Cause.INHERITED)._replace(child=child)
    end, mend = told(finding, inherited).advice
    assert end.do == "End or restart the helper 'x: kill -9 1' (kill 443)"
    assert mend.do.startswith("Let 'x: kill -9 1' (pid 441) open")
    old = told(finding, Reason(None, replaced=OLD._replace(name=evil))).advice[0]
    assert old.do == "End the old worker 'x: kill -9 1' (kill 446)"


def test_what_an_old_worker_waits_for_is_advised_too(findings: dict[str, Finding]) -> None:
    reason = reason_of(Cause.UPSTREAM)._replace(replaced=OLD)
    advice = told(findings["close-wait-unread"], reason).advice
    assert advice[0].do == "End the old worker server (kill 446)"
    assert any(one.do.endswith("postgres at 10.0.0.5:5432") for one in advice)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("nginx", "worker_shutdown_timeout 30s"),
        ("haproxy", "hard-stop-after 30s"),
        ("apache2", "Timeout 30"),
    ],
)
def test_the_limit_of_a_known_program_is_named(
    name: str, setting: str, findings: dict[str, Finding]
) -> None:
    old = OLD._replace(name=name)
    end, *limits = told(findings["close-wait-leak"], Reason(None, replaced=old)).advice
    assert end.do == f"End the old worker {name} (kill 446)"
    (limit,) = limits
    assert limit.how.startswith(setting)


def test_what_the_other_end_has_to_do_stays_true(findings: dict[str, Finding]) -> None:
    for cause in (Cause.STOPPED, Cause.INHERITED):
        advice = told(findings["peer-never-closes"], reason_of(cause)).advice
        assert advice[-1].do.startswith(_OTHER_END)


def test_of_several_processes_the_others_keep_their_advice(findings: dict[str, Finding]) -> None:
    finding = findings["close-wait-leak"]
    reason = reason_of(Cause.STOPPED)._replace(processes=2)
    assert told(finding, reason).advice[1:] == finding.advice


def test_a_child_beside_a_parent_that_does_not_close_comes_last(
    findings: dict[str, Finding],
) -> None:
    finding = findings["close-wait-leak"]
    reason = reason_of(Cause.FORGOTTEN)._replace(child=HELPER)
    advice = told(finding, reason).advice
    assert advice[: len(finding.advice)] == finding.advice
    assert advice[-2].do.endswith("(kill 443)")


def test_what_the_parent_holds_too_it_still_has_to_close(findings: dict[str, Finding]) -> None:
    finding = findings["close-wait-leak"]
    reason = reason_of(Cause.INHERITED)._replace(child=HELPER._replace(shared=5))
    advice = told(finding, reason).advice
    assert advice[: len(finding.advice)] == finding.advice
    assert advice[-2].do.endswith("(kill 443)")


@pytest.mark.parametrize(
    ("by_exec", "said"),
    [
        (True, "Let server (pid 441) open its sockets with close-on-exec set"),
        (None, "Let server (pid 441) open its sockets with close-on-exec set"),
        (False, "Let the child close what it does not use, right after fork()"),
    ],
)
def test_close_on_exec_is_advised_where_there_was_an_exec(
    by_exec: bool | None, said: str, findings: dict[str, Finding]
) -> None:
    reason = reason_of(Cause.INHERITED)._replace(child=HELPER._replace(by_exec=by_exec))
    _, mend = told(findings["close-wait-leak"], reason).advice
    assert mend.do == said
    assert ("forks without exec()" in mend.cost) is (by_exec is None)


def test_nothing_changes_where_nothing_is_known(findings: dict[str, Finding]) -> None:
    for finding in findings.values():
        assert told(finding, Reason(None)) == finding


@pytest.mark.parametrize(
    ("container", "command"),
    [
        (Container("docker", "a" * 64, "web 1"), "docker unpause 'web 1'"),
        (Container("systemd", "web.service"), "systemctl thaw web.service"),
        (Container("kubernetes", "a" * 64), ""),
        (None, ""),
    ],
)
def test_what_thaws_a_process_is_named_where_it_is_known(
    container: Container | None, command: str, findings: dict[str, Finding]
) -> None:
    reason = reason_of(Cause.FROZEN)._replace(container=container)
    (advice,) = told(findings["close-wait-leak"], reason).advice
    assert command_in(advice.how) == command


def test_the_sentence_that_calls_a_reader_stuck_is_known(findings: dict[str, Finding]) -> None:
    why = findings["close-wait-unread"].why
    assert "is stuck" in why
    rest = close_wait_unread.without_stuck(why)
    assert rest.startswith("Each of them keeps a descriptor until it is closed. Requests ")
    assert close_wait_unread.without_stuck("other words") == "other words"
