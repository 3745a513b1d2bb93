"""Run `twdiag check` in this process, on the real host or on what was seen of a lab scenario."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from twdiag import sources
from twdiag.cli import config, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twdiag.model import Snapshot

    from ..conftest import Played


class Said(NamedTuple):
    """What a run came to."""

    code: int
    out: str
    err: str = ""

    @property
    def line(self) -> str:
        """The status line without its perfdata."""
        return self.out.partition("\n")[0].partition(" | ")[0]

    @property
    def perfdata(self) -> dict[str, str]:
        """The series of the first line by label."""
        data = self.out.partition("\n")[0].partition(" | ")[2]
        return dict(series.split("=", 1) for series in data.split())


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the settings of this host and user out."""
    for name in list(os.environ):
        if name.startswith("TWDIAG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "etc.toml"))


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run `twdiag check` with some words."""

    def checked(*words: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = run(["check", *words])
        return Said(code, out.getvalue(), err.getvalue())

    return checked


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[[Snapshot], None]:
    """Let this host look like a snapshot."""

    def looks(snapshot: Snapshot) -> None:
        monkeypatch.setattr(sources, "collect", lambda source: snapshot)
        monkeypatch.setattr(sources, "add_owners", lambda snapshot, inodes: snapshot)

    return looks


@pytest.fixture
def on(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> Callable[..., Said]:
    """Run `twdiag check` as if this host were in a scenario."""

    def checked(name: str, *words: str) -> Said:
        host(played[name].snapshot)
        return check(*words)

    return checked


def process(*words: str, **options: object) -> Said:
    """Run a command as a process of its own, without this user's settings."""
    settings: dict[str, object] = {
        "env": {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        "timeout": 60,
    }
    done = subprocess.run(words, capture_output=True, text=True, **(settings | options))  # type: ignore[call-overload]
    return Said(done.returncode, done.stdout, done.stderr)


def twdiag(*words: str, **options: object) -> Said:
    """Run twdiag as a process of its own."""
    return process(sys.executable, "-m", "twdiag", *words, **options)
