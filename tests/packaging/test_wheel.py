"""The packages: what is in them, and that they work where nothing else is installed.

Building needs no network (hatchling is among the test requirements); installing does, and those
tests are marked so: `pytest -m network`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from twdiag import __version__
from twdiag.cli.completion import SCRIPTS

from .shells import ROOT

SHARED: Final = {
    "share/man/man1/twdiag.1",
    "share/man/man1/twdiag-check.1",
    "share/man/man1/twdiag-diagnose.1",
    "share/man/man1/twdiag-explain.1",
    "share/man/man1/twdiag-lab.1",
    "share/man/man1/twdiag-watch.1",
    "share/man/man1/twdiag-trace.1",
    "share/man/man1/twdiag-port.1",
    "share/man/man1/twdiag-sockets.1",
    "share/man/man1/twdiag-doctor.1",
    "share/man/man7/twdiag-rules.7",
    "share/bash-completion/completions/twdiag",
    "share/zsh/site-functions/_twdiag",
    "share/fish/vendor_completions.d/twdiag.fish",
}
VERSIONS: Final = ("3.10", "3.11", "3.12", "3.13", "3.14")

# Not "*cache*": memcached is known too.
_LEFT_OUT: Final = (
    *(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis"),
    *("dist*", "build", "*.egg-info"),
)
# A home that nothing can be written to: what it is for must not leave anything behind.
_NO_HOME = "/proc/1/none"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this project alone, as a clone would have them."""
    copy = tmp_path_factory.mktemp("checkout")
    left_out = shutil.ignore_patterns(*_LEFT_OUT)
    return Path(shutil.copytree(ROOT, copy / "twdiag", ignore=left_out))


@pytest.fixture(scope="session")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=checkout,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder


def wheel_of(folder: Path) -> Path:
    """Return the wheel in a folder."""
    return next(folder.glob("*.whl"))


def test_the_wheel_has_all_that_is_used_and_nothing_else(built: Path) -> None:
    data = f"twdiag-{__version__}.data/data/"
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = set(wheel.namelist())
        assert f"twdiag-{__version__}.dist-info/licenses/LICENSE" in names
    assert {name[len(data) :] for name in names if name.startswith(data)} == SHARED
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "twdiag").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package |= {f"twdiag/cli/completions/{name}" for name in SCRIPTS.values()}
    assert {"twdiag/software/nginx.toml", "twdiag/integrations/templates/checkmk.sh"} <= package
    rest = {name for name in names if not name.startswith(f"twdiag-{__version__}.")}
    assert rest == package


def test_every_page_and_script_is_installed() -> None:
    pages = {f"share/man/man{p.suffix[1]}/{p.name}" for p in (ROOT / "man").glob("twdiag*.[17]")}
    assert pages == {name for name in SHARED if "/man/" in name}


def test_the_sdist_has_what_a_packager_needs(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", ".ci/run", "man/generate"}
    wanted |= {
        "completions/generate",
        "completions/grammar.py",
        "CONTRIBUTING.md",
        "tests/packaging/test_wheel.py",
        "twdiag/cli/check.py",
    }
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_package_is_described(built: Path) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        metadata = wheel.read(f"twdiag-{__version__}.dist-info/METADATA").decode()
        assert "twdiag/py.typed" in wheel.namelist()
    for line in (
        "Classifier: Typing :: Typed",
        "Classifier: Operating System :: POSIX :: Linux",
        *(f"Classifier: Programming Language :: Python :: {version}" for version in VERSIONS),
    ):
        assert line in metadata.splitlines(), line
    links = dict(re.findall(r"(?m)^Project-URL: (\w+), (\S+)$", metadata))
    assert links.keys() == {"Homepage", "Issues", "Changelog"}
    assert all(link.startswith(links["Homepage"]) for link in links.values())


def test_a_wheel_needs_no_clone_to_write_its_completion_scripts(
    built: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        wheel.extractall(tmp_path)
    for shell, name in SCRIPTS.items():
        environ = {"PYTHONPATH": str(tmp_path), "_TWDIAG_COMPLETE": f"source_{shell}"}
        done = subprocess.run(
            [sys.executable, "-m", "twdiag"],
            cwd="/",
            env={"PATH": os.environ["PATH"]} | environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (ROOT / "completions" / name).read_text("utf-8")


def interpreters() -> dict[str, str]:
    """Return {"3.11": path} of the supported interpreters that are here."""
    found = {}
    for version in VERSIONS:
        candidates = [shutil.which(f"python{version}")]
        candidates += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
        if sys.version_info[:2] == tuple(map(int, version.split("."))):
            candidates.insert(0, sys.executable)
        for candidate in filter(None, candidates):
            done = subprocess.run(
                [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.stdout.strip() == version:
                found[version] = candidate
                break
    return found


def interpreter(version: str) -> str:
    """Return the interpreter of a version; skip where it is not here."""
    found = interpreters().get(version)
    if found is None:
        pytest.skip(f"Python {version} is not installed here")
    return found


def installed(python: str, what: Path, folder: Path) -> Path:
    """Return a new environment with what was built and its requirements, and nothing else."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True, timeout=120)
    done = subprocess.run(
        [str(folder / "bin" / "pip"), "install", "--quiet", str(what)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        pytest.skip(f"the requirements cannot be installed here: {' '.join(last)}")
    return folder


def said(*words: str, code: int = 0, **environ: str) -> str:
    """Return what a command writes, after looking at its exit code."""
    # Not HOME: root would make even a folder that is not there.
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PIP_NO_CACHE_DIR": "1"} | environ,
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout


def works(*twdiag: str, **environ: str) -> None:
    """Look whether every command works that needs no rights."""
    assert said(*twdiag, "--version", **environ) == f"twdiag {__version__}\n"
    assert "Examples:" in said(*twdiag, "--help", **environ)
    assert json.loads(said(*twdiag, "diagnose", "--json", **environ))["schema"] == "twdiag/1"
    assert "TWDIAG" in said(*twdiag, "check", "--exit-zero", **environ)
    assert "CLOSE_WAIT" in said(*twdiag, "explain", "CLOSE_WAIT", **environ)
    assert "\x1b[" in said(*twdiag, "diagnose", "--color", "always", **environ)
    assert "close-wait-leak" in said(*twdiag, "lab", "list", **environ)
    assert "ports-warning" in said(*twdiag, "check", "--show-limits", **environ)
    assert "TwdiagCritical" in said(*twdiag, "check", "--print-config", "prometheus-rules")
    assert "keepalive_timeout" in said(*twdiag, "explain", "nginx", **environ)
    for shell, name in SCRIPTS.items():
        asked = {"_TWDIAG_COMPLETE": f"source_{shell}"}
        assert said(*twdiag, **asked, **environ) == (ROOT / "completions" / name).read_text("utf-8")


# First, since it takes the longest.
@pytest.mark.network
def test_the_single_file_runs_on_every_python_without_a_network(
    checkout: Path, tmp_path: Path
) -> None:
    single = tmp_path / "twdiag.pyz"
    done = subprocess.run(
        [str(checkout / ".ci" / "build-single-file"), str(single)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"PYTHON": sys.executable},
    )
    if done.returncode:
        pytest.skip(f"it cannot be built here: {done.stderr.strip().splitlines()[-1:]}")
    for version, python in interpreters().items():
        # An index that does not exist: nothing may be fetched.
        works(python, str(single), SHIV_ROOT=str(tmp_path / version), PIP_NO_INDEX="1")


@pytest.mark.network
@pytest.mark.parametrize("version", VERSIONS)
def test_it_works_without_development_requirements(
    version: str, built: Path, tmp_path: Path
) -> None:
    folder = installed(interpreter(version), wheel_of(built), tmp_path / "venv")
    works(str(folder / "bin" / "twdiag"))
    assert {name for name in SHARED if (folder / name).is_file()} == SHARED
    listed = said(str(folder / "bin" / "pip"), "list", "--format", "freeze")
    assert not re.search(r"(?im)^(pytest|hypothesis|mypy|ruff|pydantic)\b", listed)


@pytest.mark.network
def test_the_first_command_of_the_readme_works_in_a_clone(checkout: Path, tmp_path: Path) -> None:
    from .test_readme import marked

    clone = Path(shutil.copytree(checkout, tmp_path / "clone"))
    done = subprocess.run(
        ["bash", "-c", marked("first command")],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip("there is no package index here")
    verdict = done.stdout.split(maxsplit=1)[0]
    assert (done.returncode, verdict in {"OK", "NOTICE", "WARNING", "CRITICAL"}) == (0, True)
