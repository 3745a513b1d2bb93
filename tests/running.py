"""Run `twdiag check` in this process, on the real host or on what was seen of a lab scenario."""

from __future__ import annotations

import io
import os
import re
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import pytest

import twdiag as twdiag_package
from tests.loaded import load_all
from twdiag import sources
from twdiag.cli import run
from twdiag.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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


@pytest.fixture(scope="session")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not there: a new one for each of thousands of tests takes seconds."""
    return tmp_path_factory.getbasetemp() / "nowhere"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch, nowhere: Path) -> None:
    """Keep the settings of this host and user out."""
    for name in list(os.environ):
        if name.startswith("TWDIAG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(nowhere))
    monkeypatch.setattr(config, "SYSTEM_FILE", str(nowhere / "etc.toml"))


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run `twdiag check` with some words."""

    load_all()  # or a busy host would import what is missing while a time limit runs

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


REDIRECTION: Final = re.compile(r"([012])?([<>])(&-|/\S+)")


def forked(
    *words: str, streams: str = "", environ: Mapping[str, str] | None = None, script: str = ""
) -> Said:
    """Run twdiag in a fork of this process, which shows what a start shows and takes a fifth of it.

    All is real but the start of the interpreter and the imports: descriptors, streams made of them
    as Python makes its own, the hooks of `python -m twdiag`, the exit code.  `streams` redirects
    as a shell does (">/dev/full", ">&-", "2>&-"); ">|" is a pipe whose reader has gone.  `script`
    is run in place of `python -m twdiag`.
    """
    load_all()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            try:
                _redirect(out.fileno(), err.fileno(), streams)
                _become_twdiag(words, environ or {}, script)
            finally:
                os._exit(70)
        code = _exit_code(child)
        for file in (out, err):
            file.seek(0)
        return Said(code, out.read().decode(), err.read().decode())


def _redirect(out: int, err: int, streams: str) -> None:
    """Give this process the standard streams that a shell would start a program with."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number, to in enumerate((nothing, out, err)):
        os.dup2(to, number)
    for stream in streams.split():
        if stream == ">|":
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, 1)
            os.close(writing)
            continue
        found = REDIRECTION.fullmatch(stream)
        assert found is not None, stream
        number = int(found[1] or found[2] == ">")
        if found[3] == "&-":
            os.close(number)
        else:
            os.dup2(os.open(found[3], os.O_RDWR), number)
    # Only now: what took the lowest free number before must not stand in for a closed stream.
    for extra in {nothing, out, err} - {0, 1, 2}:
        os.close(extra)


def _become_twdiag(words: tuple[str, ...], environ: Mapping[str, str], script: str) -> NoReturn:
    """Do what the interpreter does of `python -m twdiag`, with its modules loaded before."""
    os.environ.clear()
    os.environ.update({"PATH": os.defpath, **environ})
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))  # type: ignore[assignment]
    sys.argv = ["twdiag", *words]
    try:
        if script:
            runpy.run_path(script, run_name="__main__")
        else:
            runpy.run_module("twdiag", run_name="__main__", alter_sys=True)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    raise AssertionError("twdiag ends its process")


def _stream(number: int) -> io.TextIOWrapper | None:
    """Return a standard stream as Python opens it, None where it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)


def _exit_code(child: int) -> int:
    """Wait for a child and return its exit code; end it where it takes a minute."""
    watched = os.pidfd_open(child)
    try:
        if not select.select([watched], [], [], 60)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(watched)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
