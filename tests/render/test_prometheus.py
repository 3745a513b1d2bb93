"""The Prometheus text format, as prometheus_client's parser reads it."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from twdiag import lab
from twdiag.check.verdict import Answer
from twdiag.errors import SourceRefused
from twdiag.model.findings import Confidence, Finding, HostSubject, ProcessSubject, Report, Severity
from twdiag.model.snapshot import Gap
from twdiag.render.prometheus import render_prometheus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Played
    from tests.running import Said
    from twdiag.model.snapshot import Snapshot

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """Return the samples by name and labels; each must be there once and well described."""
    samples: Samples = {}
    names = set()
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        assert family.name not in names
        names.add(family.name)
        for sample in family.samples:
            assert sample.timestamp is None
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples
            samples[key] = sample.value
    return samples


@pytest.mark.parametrize("name", [scenario.name for scenario in lab.SCENARIOS])
def test_every_scenario(name: str, on: Callable[..., Said], played: dict[str, Played]) -> None:
    said = on(name, "--format", "prometheus")
    samples = parsed(said.out)
    assert samples["twdiag_status", ()] == said.code
    assert samples["twdiag_source_up", (("source", "netlink"),)] == 1
    found = {
        (labels["rule"], labels["severity"])
        for (sample, pairs) in samples
        if sample == "twdiag_finding"
        for labels in (dict(pairs),)
    }
    assert found == {(f.rule, f.severity.label) for f in played[name].report.findings}
    assert len(samples) < 80


def test_base_units(on: Callable[..., Said]) -> None:
    samples = parsed(on("ports-running-out", "--format", "prometheus").out)
    assert samples["twdiag_ports_used_ratio", ()] == 0.9
    assert samples["twdiag_sockets", (("state", "time_wait"),)] == 90
    ends = (("destination", "127.0.0.1:8080"), ("source", "127.0.0.1"))
    assert samples["twdiag_destination_ports_used", ends] == 90
    assert samples["twdiag_destination_ports_taken_ratio", ends] == 0.9
    samples = parsed(on("close-wait-leak", "--format", "prometheus").out)
    assert 10 < samples["twdiag_close_wait_age_seconds", ()] < 60
    samples = parsed(on("bucket-overflow", "--format", "prometheus").out)
    assert samples["twdiag_time_wait_overflows_total", ()] == 10
    stamp = samples["twdiag_last_run_timestamp_seconds", ()]
    assert abs(stamp - time.time()) < 60


def test_what_was_not_seen_is_absent(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> None:
    seen = played["idle"].snapshot
    host(seen._replace(gaps=(Gap("timers", "no", "way"),), counters={}))
    samples = parsed(check("--format", "prometheus").out)
    names = {name for name, _ in samples}
    assert "twdiag_closes_per_second" not in names
    assert "twdiag_listen_overflows_total" not in names
    assert samples["twdiag_rule_skipped", (("rule", "time-wait-rising"),)] == 1


def test_a_source_that_fails_is_down(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., Said], tmp_path: Path
) -> None:
    from twdiag import sources

    def refuse(source: str) -> None:
        raise SourceRefused("the kernel refuses the socket dump", "do something")

    monkeypatch.setattr(sources, "collect", refuse)
    said = check("--format", "prometheus")
    assert said.code == 3
    samples = parsed(said.out)
    assert samples["twdiag_source_up", (("source", "auto"),)] == 0
    assert samples["twdiag_status", ()] == 3
    assert not [name for name, _ in samples if name == "twdiag_sockets"]
    file = tmp_path / "twdiag.prom"
    said = check("--format", "prometheus", "--output", str(file))
    assert said.code == 3
    assert said.line == "TWDIAG UNKNOWN - the kernel refuses the socket dump"
    assert parsed(file.read_text())["twdiag_source_up", (("source", "auto"),)] == 0


def report(findings: list[Finding], played_report: Report) -> Answer:
    return Answer((), (), played_report._replace(findings=tuple(findings)))


def a_finding(name: str, n: int = 0) -> Finding:
    return Finding(
        Severity.WARNING,
        Confidence.OBSERVED,
        name,
        ProcessSubject(n, name, "root") if name else HostSubject(),
        {"seconds_to_exhaustion": 5.5},
        (),
        rule="close-wait-leak",
    )


@given(names=st.lists(st.text(max_size=20), max_size=40))
def test_any_name_is_a_label(names: list[str], played: dict[str, Played]) -> None:
    out = io.StringIO()
    findings = [a_finding(name, n) for n, name in enumerate(names)]
    render_prometheus(report(findings, played["idle"].report), out, 1.5, 0.01)
    samples = parsed(out.getvalue())
    counts = [value for (name, _), value in samples.items() if name == "twdiag_finding"]
    assert sum(counts) == len(names)
    assert len(counts) <= 21


def test_many_findings_stay_few_series(played: dict[str, Played]) -> None:
    out = io.StringIO()
    findings = [a_finding(f"name-{n}", n) for n in range(500)]
    render_prometheus(report(findings, played["idle"].report), out, 1.5, 0.01)
    samples = parsed(out.getvalue())
    other = (("rule", "close-wait-leak"), ("severity", "warning"), ("subject", "other"))
    assert samples["twdiag_finding", other] == 480


def test_the_output_file_can_be_read_by_others(on: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "twdiag.prom"
    file.write_text("old")
    file.chmod(0o600)
    said = on("fd-limit", "--format", "prometheus", "--output", str(file))
    assert (said.code, said.out) == (1, "")
    assert file.stat().st_mode & 0o777 == 0o644
    assert parsed(file.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["twdiag.prom"]
