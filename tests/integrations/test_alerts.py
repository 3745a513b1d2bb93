"""The shipped Prometheus alerts: each can fire, on what `check` really writes."""

from __future__ import annotations

import json
import operator
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from tests.history.test_state_file import NOW, waits, with_rows
from tests.render.test_prometheus import parsed
from twdiag import integrations, lab
from twdiag.errors import SourceRefused
from twdiag.history import state_file as memory
from twdiag.model.snapshot import Gap, Owner
from twdiag.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Played
    from tests.running import Said
    from twdiag.model.snapshot import Snapshot

RULES_FILE: Final = integrations.snippet("prometheus-rules", ["/usr/bin/twdiag"])
# What Prometheus and node_exporter have of their own.
FOREIGN: Final = {"ALERTS", "node_textfile_scrape_error"}


class Rule(NamedTuple):
    """One rule of the file."""

    name: str
    expression: str
    severity: str
    annotations: dict[str, str]


def rules(kind: str) -> list[Rule]:
    """Return the alerts, or the recorded series, that the file has."""
    found = []
    for block in re.split(r"\n +- (?=record|alert)", RULES_FILE)[1:]:
        block = re.sub(r"\n *#.*", "", block)
        key, _, rest = block.partition(": ")
        if key != kind:
            continue
        name, _, rest = rest.partition("\n")
        expression = re.search(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", rest, re.DOTALL)
        severity = re.search(r"severity: (\w+)", rest)
        assert expression
        assert severity
        said = dict(re.findall(r"(summary|description): '(.*)'\n", rest + "\n"))
        found.append(Rule(name, " ".join(expression[1].split()), severity[1], said))
    return found


ALERTS: Final = {rule.name: rule for rule in rules("alert")}
RECORDED: Final = rules("record")

Sample = tuple[str, dict[str, str], float]


@pytest.fixture
def written(
    on: Callable[..., Said],
    check: Callable[..., Said],
    host: Callable[[Snapshot], None],
    played: dict[str, Played],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> list[Sample]:
    """All that is written on the hosts of the lab, and where one fills up, hides or refuses."""
    texts = [on(scenario.name, "--format", "prometheus").out for scenario in lab.SCENARIOS]
    host(played["idle"].snapshot._replace(gaps=(Gap("timers", "no", "way"),)))
    texts.append(check("--format", "prometheus").out)
    for run, descriptors in enumerate((82, 90)):
        rows = waits(60)
        holder = Owner(os.getpid(), "leaky", "root", descriptors, 100)
        owners = {row.inode: (holder,) for row in rows}
        host(with_rows(played["idle"].snapshot, rows, owners=owners))
        now = NOW._replace(uptime=NOW.uptime + 60 * run, wall=NOW.wall + 60 * run)
        monkeypatch.setattr(memory, "moment", lambda now=now: now)
        texts.append(check("--format", "prometheus", "--state", str(tmp_path / "state")).out)
    from twdiag import sources

    def refuse(source: str) -> None:
        raise SourceRefused("no")

    monkeypatch.setattr(sources, "collect", refuse)
    texts.append(check("--format", "prometheus").out)
    return [
        (name, dict(labels), value)
        for text in texts
        for (name, labels), value in parsed(text).items()
    ]


SELECTOR: Final = re.compile(r"\b([a-zA-Z_:]+)\{([^}]*)\}|\b(twdiag_\w+|node_\w+)")
COMPARED: Final = re.compile(r"^(twdiag_\w+) (==|<|>) ([0-9.]+)$")
HOW: Final = {"==": operator.eq, "<": operator.lt, ">": operator.gt}


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Return the metrics of an expression with what it wants of their labels, as patterns."""
    found = []
    for name, labels, bare in SELECTOR.findall(expression):
        wanted = re.findall(r'(\w+)=(~?)"([^"]*)"', labels)
        found.append((name or bare, {k: v if tilde else re.escape(v) for k, tilde, v in wanted}))
    return found


def fits(sample: Sample, name: str, wanted: dict[str, str]) -> bool:
    """Return whether a sample is one that a selector takes."""
    labels = sample[1]
    return sample[0] == name and all(
        re.fullmatch(pattern, labels.get(key, "")) for key, pattern in wanted.items()
    )


def test_there_are_alerts() -> None:
    assert len(ALERTS) == RULES_FILE.count("- alert:") >= 10
    assert len(RECORDED) == RULES_FILE.count("- record:") == 3


def test_every_metric_and_label_is_one_that_is_written(written: list[Sample]) -> None:
    recorded = {(rule.name, rule.severity) for rule in RECORDED}
    for rule in (*ALERTS.values(), *RECORDED):
        used = selectors(rule.expression)
        assert used, rule
        for name, wanted in used:
            if name.startswith("twdiag:"):
                assert (name, wanted["severity"]) in recorded, rule
            elif name not in FOREIGN:
                assert any(fits(sample, name, wanted) for sample in written), (rule, name, wanted)


def test_every_limit_is_one_that_a_host_reaches(written: list[Sample]) -> None:
    compared = 0
    for rule in ALERTS.values():
        found = COMPARED.match(rule.expression)
        if found:
            compared += 1
            values = [value for name, _, value in written if name == found[1]]
            assert any(HOW[found[2]](value, float(found[3])) for value in values), rule
            assert any(not HOW[found[2]](value, float(found[3])) for value in values) or (
                found[1] in ("twdiag_rule_skipped", "twdiag_exhaustion_seconds")
            ), rule
    assert compared >= 3


def test_every_severity_of_a_finding_raises_one(written: list[Sample]) -> None:
    """A rule that never says more than a notice is not left out."""
    seen = {
        (labels["rule"], labels["severity"])
        for name, labels, _ in written
        if name == "twdiag_finding"
    }
    assert {"notice", "warning", "critical"} == {severity for _, severity in seen}
    taken = [
        wanted["severity"]
        for rule in RECORDED
        for name, wanted in selectors(rule.expression)
        if name == "twdiag_finding"
    ]
    for rule, severity in seen:
        assert any(re.fullmatch(pattern, severity) for pattern in taken), (rule, severity)
    assert {rule for rule, _ in seen} <= {rule.name for rule in RULES}
    # What is told as a notice wakes nobody.
    assert {a.severity for a in ALERTS.values()} == {"notice", "warning", "critical"}
    assert ALERTS["TwdiagNotice"].severity == "notice"


STATUS: Final = ('twdiag_status{instance="a"}', "1x600")
LABELS: Final = {"instance": "a", "rule": "ports-running-out", "subject": "10.0.0.5:80"}


def finding(severity: str, values: str) -> tuple[str, str]:
    return (
        f'twdiag_finding{{instance="a",rule="ports-running-out",severity="{severity}",'
        'subject="10.0.0.5:80"}',
        values,
    )


class Case(NamedTuple):
    """What series come in, and when which alert has to fire; the others must not."""

    series: list[tuple[str, str]]
    expected: dict[str, dict[str, dict[str, str] | None]]


def fires(name: str, labels: dict[str, str] = LABELS) -> dict[str, dict[str, str] | None]:
    """Return that one alert fires, with these labels and its severity, and no other does."""
    nothing: dict[str, dict[str, str] | None] = dict.fromkeys(ALERTS)
    return nothing | ({name: {**labels, "severity": ALERTS[name].severity}} if name else {})


RUNS: Final = ('twdiag_last_run_timestamp_seconds{instance="a"}', "0+60x1600")
HERE: Final = [STATUS, RUNS]
CASES: Final = {
    "a critical finding that lasts": Case(
        [*HERE, finding("critical", "_x4 1x20 _x30")],
        {
            "3m": fires(""),
            "10m": fires("TwdiagCritical"),
            "20m": fires("TwdiagCritical"),
            "45m": fires(""),
        },
    ),
    "one look": Case([*HERE, finding("critical", "_x10 1 _x30")], {"12m": fires("")}),
    "a warning that lasts": Case(
        [*HERE, finding("warning", "1x60")], {"1m": fires(""), "10m": fires("TwdiagWarning")}
    ),
    "critical and warning by turns": Case(
        [
            *HERE,
            finding("critical", " ".join(["1", "_"] * 30)),
            finding("warning", " ".join(["_", "1"] * 30)),
        ],
        {f"{minute}m": fires("TwdiagCritical") for minute in range(12, 40, 3)},
    ),
    "a notice that lasts": Case(
        [*HERE, finding("notice", "1x300")], {"30m": fires(""), "130m": fires("TwdiagNotice")}
    ),
    "ports that end soon": Case(
        [
            *HERE,
            (
                'twdiag_exhaustion_seconds{instance="a",rule="ports-running-out",'
                'subject="10.0.0.5:80"}',
                "4000 2000 600 200x5 2000x5",
            ),
        ],
        {"2m": fires(""), "5m": fires("TwdiagExhaustionNear"), "12m": fires("")},
    ),
    "a full table of TIME_WAIT": Case(
        [*HERE, ('twdiag_time_wait_overflows_total{instance="a"}', "7x10 17+10x30")],
        {"9m": fires(""), "25m": fires("TwdiagTimeWaitTableOverflows", {"instance": "a"})},
    ),
    "a full accept queue": Case(
        [*HERE, ('twdiag_listen_overflows_total{instance="a"}', "7x10 17+60x30")],
        {"9m": fires(""), "25m": fires("TwdiagAcceptQueueOverflows", {"instance": "a"})},
    ),
    "a source that refuses": Case(
        [*HERE, ('twdiag_source_up{instance="a",source="auto"}', "1x5 0x20")],
        {"4m": fires(""), "15m": fires("TwdiagCannotLook", {"instance": "a", "source": "auto"})},
    ),
    "a rule that cannot look": Case(
        [*HERE, ('twdiag_rule_skipped{instance="a",rule="fd-limit-near"}', "1x100")],
        {
            "30m": fires(""),
            "70m": fires("TwdiagCannotJudge", {"instance": "a", "rule": "fd-limit-near"}),
        },
    ),
    "a timer that stopped": Case(
        [STATUS, ('twdiag_last_run_timestamp_seconds{instance="a"}', "0+60x10 600x60")],
        {"20m": fires(""), "30m": fires("TwdiagStale", {"instance": "a"})},
    ),
    "a host that fell silent": Case(
        [
            ('twdiag_last_run_timestamp_seconds{instance="a"}', "0+60x1440 stale"),
            ('twdiag_last_run_timestamp_seconds{instance="b"}', "0+60x2900"),
        ],
        {"1430m": fires(""), "1470m": fires("TwdiagVanished", {"instance": "a"})},
    ),
    "a host whose timer never ran": Case(
        [
            RUNS,
            ('node_textfile_scrape_error{instance="a"}', "0x200"),
            ('node_textfile_scrape_error{instance="b"}', "0x200"),
        ],
        {"30m": fires(""), "90m": fires("TwdiagNeverRan", {"instance": "b"})},
    ),
    "nobody": Case(
        [('up{instance="a"}', "1x60")], {"5m": fires(""), "30m": fires("TwdiagAbsent", {})}
    ),
}


def _filled(text: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)


def _alert_test(minute: str, name: str, labels: dict[str, str] | None) -> dict[str, Any]:
    expected = []
    if labels is not None:
        said = {k: _filled(v, labels) for k, v in ALERTS[name].annotations.items()}
        expected = [{"exp_labels": labels, "exp_annotations": said}]
    return {"eval_time": minute, "alertname": name, "exp_alerts": expected}


@pytest.mark.parametrize("what", CASES)
def test_promtool_fires_the_alert_and_no_other(what: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here: apt-get install prometheus")
    case = CASES[what]
    (tmp_path / "rules.yml").write_text(RULES_FILE)
    tests = [
        _alert_test(minute, name, labels)
        for minute, expected in case.expected.items()
        for name, labels in expected.items()
    ]
    series = [{"series": name, "values": values} for name, values in case.series]
    text = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": tests}],
    }
    (tmp_path / "test.yml").write_text(json.dumps(text))  # JSON is YAML too
    done = subprocess.run(
        [promtool, "test", "rules", str(tmp_path / "test.yml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    fired = {
        name
        for case in CASES.values()
        for expected in case.expected.values()
        for name, labels in expected.items()
        if labels is not None
    }
    assert fired == ALERTS.keys()
