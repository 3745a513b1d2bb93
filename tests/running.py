"""Run `twdiag check` in this process, on the real host or on what was seen of a lab scenario."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import twdiag as twdiag_package
from twdiag import sources
from twdiag.cli import run
from twdiag.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Played
    from twdiag.model.snapshot import Snapshot


SOURCE = str(Path(twdiag_package.__file__).parent.parent)


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
        monkeypatch.setattr(sources, "collect", lambda *_: snapshot)
        monkeypatch.setattr(sources, "find_owners", lambda *_: (dict(snapshot.owners), []))
        monkeypatch.setattr(sources, "break_down", lambda *_: (dict(snapshot.breakdowns), []))

    return looks


@pytest.fixture
def on(
    played: dict[str, Played], host: Callable[[Snapshot], None], check: Callable[..., Said]
) -> Callable[..., Said]:
    """Run `twdiag check` as if this host were in a scenario."""

    def checked(name: str, *words: str) -> Said:
        host(played[name].snapshot)
        limits = [f"--limit={limit}={value:g}" for limit, value in played[name].limits.items()]
        return check(*limits, *words)

    return checked


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
NEEDED = ("twdiag", "typer", "shellingham", "annotated_doc", "psutil")


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that every user may read."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def open_twdiag(open_folder: Path) -> str:
    """An installation of twdiag that every user may run; skip where no interpreter allows it."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root, with setpriv (util-linux), can become nobody")
    for name in NEEDED:
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        source = Path(found.origin).parent
        shutil.copytree(source, open_folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = open_folder / "twdiag.py"
    for interpreter in (sys.executable, "/usr/bin/python3"):
        script.write_text(
            f"#!{interpreter}\nimport sys\nsys.path.insert(0, {str(open_folder)!r})\n"
            "sys.dont_write_bytecode = True\nfrom twdiag.cli import main\nmain()\n"
        )
        script.chmod(0o755)
        # By a shell of nobody's: what setpriv itself starts may still be found with root's rights.
        try_it = f"{interpreter} -c 'import sys; assert sys.version_info >= (3, 10)'"
        if not process(*NOBODY, "sh", "-c", try_it).code:
            break
    else:
        pytest.skip("nobody may not run any Python here")
    path = open_folder / "bin" / "twdiag"
    path.parent.mkdir()
    script.rename(path)
    return str(path)


def process(*words: str, **options: object) -> Said:
    """Run a command as a process of its own, without this user's settings."""
    settings: dict[str, object] = {
        "env": {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE},
        "timeout": 60,
    }
    done = subprocess.run(words, capture_output=True, text=True, **(settings | options))  # type: ignore[call-overload]
    return Said(done.returncode, done.stdout, done.stderr)


def twdiag(*words: str, **options: object) -> Said:
    """Run twdiag as a process of its own."""
    return process(sys.executable, "-m", "twdiag", *words, **options)
