"""The start of the single file: where it unpacks itself, and what it says where it cannot."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.running import NOBODY, Said, process

from .shells import ROOT

# Stands in for shiv: it says where it would unpack.
BOOTSTRAP = """
import os
def bootstrap():
    print(os.environ["SHIV_ROOT"])
"""


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An application in one file, with the start that .ci/build-single-file gives to it."""
    folder = tmp_path_factory.mktemp("single")
    for above in (folder, folder.parent):
        above.chmod(0o755)
    path = folder / "twdiag.pyz"
    with open(path, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("_bootstrap/__init__.py", BOOTSTRAP)
            archive.writestr("__main__.py", "raise SystemExit('shiv')")
    path.chmod(0o755)
    main = str(ROOT / ".ci" / "single-file-main.py")
    subprocess.run([sys.executable, ROOT / ".ci" / "set-main", path, main], check=True)
    return str(path)


def started(single: str, *words: str, **environ: str) -> Said:
    """Start it with nothing in the environment but some variables."""
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environ}
    return process(sys.executable, single, *words, env=env)


def test_the_file_is_otherwise_as_it_was(single: str) -> None:
    with open(single, "rb") as file:
        assert file.readline() == b"#!/usr/bin/env python3\n"
    assert os.access(single, os.X_OK)
    with zipfile.ZipFile(single) as archive:
        assert archive.namelist() == ["_bootstrap/__init__.py", "__main__.py"]
        assert archive.testzip() is None


def test_the_folder_asked_for_or_that_of_the_user_is_taken(single: str, tmp_path: Path) -> None:
    home, root = str(tmp_path / "home"), str(tmp_path / "root")
    assert started(single, HOME=home) == (0, f"{home}/.shiv\n", "")
    assert started(single, HOME=home, SHIV_ROOT=root) == (0, f"{root}\n", "")


@pytest.mark.parametrize("home", ["/proc/1/none", "", "relative"])
def test_without_a_home_a_folder_of_our_own_is_found(single: str, home: str) -> None:
    said = started(single, HOME=home)
    assert (said.code, said.err) == (0, "")
    folder = Path(said.out.strip())
    assert folder.name == f"twdiag-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    with contextlib.suppress(OSError):  # somebody may use the single file here
        folder.rmdir()


def test_where_nothing_can_be_written_it_is_a_sentence(single: str) -> None:
    said = started(single, "--json", SHIV_ROOT="/proc/1/none")
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("twdiag: there is no folder to unpack into")
    said = started(single, "check", SHIV_ROOT="/proc/1/none")
    assert (said.code, said.err) == (3, "")
    assert said.out.startswith("TWDIAG UNKNOWN - there is no folder to unpack into")


def test_a_folder_that_somebody_laid_out_is_not_taken(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    text = (ROOT / ".ci" / "single-file-main.py").read_text("utf-8")
    space: dict[str, Any] = {}
    exec(text.rpartition("main()")[0], space)
    for name, mode, owner in (("ours", 0o700, 0), ("open", 0o777, 0), ("theirs", 0o700, 65534)):
        folder = tmp_path / name
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, owner, owner)
        assert space["fit"](str(folder)) is (name == "ours"), name
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "ours")
    assert space["fit"](str(link)) is False


def test_as_nobody(single: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    done = process(*NOBODY, "/usr/bin/python3", single, env={"PATH": "/usr/bin", "HOME": "/root"})
    if "No such file" in done.err or "Permission" in done.err:
        pytest.skip("nobody may not run any Python here")
    assert (done.code, done.err) == (0, "")
    assert done.out.strip().endswith("/twdiag-65534")
