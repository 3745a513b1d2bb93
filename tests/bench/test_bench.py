"""The benchmark itself: it runs, its ratios are paired, its picture is one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from . import picture, report
from .commands import CHECK, FLOOR, PSUTIL, ROOT, SS
from .measure import Run, Setting

if TYPE_CHECKING:
    from pathlib import Path


def run_of(command: str, number: int, wall: float) -> Run:
    """Return a run that took so long."""
    return Run(command, number, wall, wall, 0.0, 10_000_000)


def setting_of(size: int, **walls: list[float]) -> Setting:
    """Return a setting with these wall times of `ss` and `check`, round by round."""
    names = {"ss": SS.name, "check": CHECK.name, "psutil": PSUTIL.name}
    runs = [
        run_of(names[short], number, wall)
        for short, times in walls.items()
        for number, wall in enumerate(times)
    ]
    return Setting("scale", "mixed", {"TIME_WAIT": size}, (SS.name,), runs=runs)


def test_ratios_are_paired_by_round() -> None:
    setting = setting_of(600_000, ss=[1.0, 4.0, 2.0], check=[0.5, 2.0, 1.4])
    assert setting.ratios(CHECK.name, SS.name) == [0.5, 0.5, 0.7]
    assert setting.ratio(CHECK.name, SS.name) == 0.5
    assert "goal held: twdiag check <= 1.0 x ss -tan: 0.50" in report.table(setting)


def test_a_command_that_ran_in_some_rounds_is_compared_with_those() -> None:
    setting = setting_of(100, ss=[1.0, 2.0], psutil=[3.0])
    assert setting.ratios(PSUTIL.name, SS.name) == [3.0]


def test_without_ss_the_first_command_is_the_measure() -> None:
    setting = setting_of(100, check=[0.5, 0.6])
    setting.absent[SS.name] = "it does not start: No such file or directory"
    table = report.table(setting)
    assert "x twdiag check" in table
    assert "ss -tan: not measured, it does not start" in table


def test_the_picture_is_well_formed_and_names_every_line() -> None:
    settings = [setting_of(n, ss=[n / 1e6], check=[n / 2e6], psutil=[n / 1e5]) for n in (10, 100)]
    drawn = ElementTree.fromstring(picture.growth(settings, "2 <cores>"))
    texts = " ".join(element.text or "" for element in drawn.iter())
    assert "twdiag check 0.50x" in texts
    assert "psutil 10.00x" in texts


def test_no_picture_without_something_to_compare_with() -> None:
    with pytest.raises(ValueError, match="needs `ss -tan`"):
        picture.growth([setting_of(100, check=[0.5])], "machine")


def test_looking_closer_costs_little_more_than_reading_the_files() -> None:
    words = ["--waits", "--processes", "20", "--runs", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "refuses" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "stuck: 20 processes, 80 threads, medians of 3 rounds" in done.stdout
    assert "look closer <= 2.5 x read the files" in done.stdout


def test_it_runs(tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    words = ["--scale", "--sizes", "300", "--runs", "1", "--json", str(values)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "refuses" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    (setting,) = json.loads(values.read_text())["settings"]
    assert setting["alive"] == [300, 300]
    assert FLOOR.name in setting["medians"]
    assert CHECK.name in setting["medians"], setting["absent"]
    assert f"x {SS.name}" in done.stdout or SS.name in setting["absent"]


def test_the_whole_host_is_measured() -> None:
    words = ["--namespaces", "3", "--time-waits", "300", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.namespaces", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "no host of its own" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert "  5 looked at, the busiest with 302 sockets; none left out" in done.stdout
    assert done.stdout.count("x --this-netns") == 15
