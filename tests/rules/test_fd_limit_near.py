"""The descriptor limit that CLOSE_WAITs eat up, by what is used and by when it is reached."""

from __future__ import annotations

import pytest

from tests.made import (
    LISTEN_8080,
    aged,
    close_wait,
    found,
    held,
    only_finding,
    report_of,
    snapshot_of,
)
from twdiag.model.findings import ProcessSubject, Severity
from twdiag.model.snapshot import Gap

RULE = "fd-limit-near"


@pytest.mark.parametrize(
    ("fds", "severity"),
    [(79, None), (80, Severity.WARNING), (94, Severity.WARNING), (95, Severity.CRITICAL)],
)
def test_the_limit_has_three_levels(fds: int, severity: Severity | None) -> None:
    snapshot = snapshot_of(LISTEN_8080, *close_wait(60), owners=held(60, fds, 100))
    assert found(snapshot).get(RULE) == severity


@pytest.mark.parametrize(("fds", "words"), [(99, "before it reaches"), (100, "no descriptor left")])
def test_a_process_at_its_limit_is_not_told_to_restart_before_it(fds: int, words: str) -> None:
    finding = only_finding(
        snapshot_of(LISTEN_8080, *close_wait(60), owners=held(60, fds, 100)), RULE
    )
    assert words in finding.advice[0].do


def test_a_limit_that_other_descriptors_fill_is_not_this_rules() -> None:
    snapshot = snapshot_of(LISTEN_8080, *close_wait(40), owners=held(40, 90, 100))
    assert RULE not in found(snapshot)


def test_each_process_has_a_limit_of_its_own() -> None:
    owners = held(60, 90, 100) | {
        inode: (owner[0]._replace(pid=900),)
        for inode, owner in held(60, 50, 100).items()
        if inode >= 150
    }
    finding = only_finding(snapshot_of(LISTEN_8080, *close_wait(60), owners=owners), RULE)
    assert finding.subject == ProcessSubject(812, "java", "app")
    assert finding.evidence["close_wait"] == 50
    assert finding.evidence["limit"] == 100


def test_time_to_emfile_comes_from_two_samples() -> None:
    rows = [LISTEN_8080, *close_wait(60)]
    earlier = snapshot_of(*rows, taken_at=999_990.0, owners=held(60, 80, 100))
    snapshot = snapshot_of(*rows, owners=held(60, 90, 100), earlier=earlier)
    finding = only_finding(snapshot, RULE)
    assert finding.evidence["seconds_to_exhaustion"] == pytest.approx(10.0)
    assert "the limit is reached in 10 s at this rate" in finding.summary


@pytest.mark.parametrize(
    ("fds_before", "severity"), [(100, Severity.CRITICAL), (155, Severity.WARNING), (159, None)]
)
def test_a_leak_that_reaches_the_limit_soon_alarms_before_it_is_near(
    fds_before: int, severity: Severity | None
) -> None:
    rows = [LISTEN_8080, *aged(close_wait(120), 20)]
    earlier = snapshot_of(*rows, taken_at=999_990.0, owners=held(120, fds_before, 400))
    snapshot = snapshot_of(*rows, owners=held(120, 160, 400), earlier=earlier)
    assert found(snapshot).get(RULE) == severity


def test_without_rights_the_descriptor_limit_is_not_judged_and_that_is_said() -> None:
    gap = Gap("owners", "the owners of 9 sockets are not visible", "run as root", partial=True)
    report = report_of(snapshot_of(LISTEN_8080, *aged(close_wait(9), 60), gaps=(gap,)))
    assert [skip.rule for skip in report.skipped] == [RULE]
    few = report_of(snapshot_of(LISTEN_8080, *aged(close_wait(4), 60), gaps=(gap,)))
    assert few.skipped == ()


def test_a_process_whose_descriptors_were_not_seen_is_not_judged() -> None:
    owners = {i: (o[0]._replace(fds=None),) for i, o in held(60, 99, 100).items()}
    assert RULE not in found(snapshot_of(LISTEN_8080, *close_wait(60), owners=owners))
