"""Files that the user names, in folders that others may write to."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from twdiag.errors import UsageError
from twdiag.history import files

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def left(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


@pytest.mark.parametrize(
    "name", [".x.\u00b2.tmp", ".x.\u0663.tmp", ".x..tmp", ".x.-1.tmp", ".x." + "9" * 5000 + ".tmp"]
)
def test_a_name_that_is_no_number_stands_in_nobodys_way(name: str, tmp_path: Path) -> None:
    if len(name) < 255:
        (tmp_path / name).touch()
    else:
        assert files._pid_of_leftover("x", name) is None
    files.replace(str(tmp_path / "x"), b"new", 0o600)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert [found for found in left(tmp_path) if found != "x"] == [name] * (len(name) < 255)


def test_our_own_leftovers_go_and_nothing_else_does(tmp_path: Path) -> None:
    gone = 4_194_305  # above the largest number of a process: PID_MAX_LIMIT
    ours = [f".x.{gone}.tmp", f".x.{gone}.0123abcd.tmp"]
    others = [f".y.{gone}.tmp", f"x.{gone}.tmp", f".x.{gone}.tmp.old", f".x.{os.getppid()}.tmp"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    files.replace(str(tmp_path / "x"), b"new", 0o600)
    assert left(tmp_path) == sorted(["x", *others])


@as_root
def test_the_leftovers_of_another_user_stay(tmp_path: Path) -> None:
    other = tmp_path / ".x.4194305.tmp"
    other.touch()
    os.chown(other, NOBODY, NOBODY)
    files.replace(str(tmp_path / "x"), b"new", 0o600)
    assert left(tmp_path) == [".x.4194305.tmp", "x"]


def test_nobody_can_take_the_temporary_name_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f".x.{os.getpid()}.tmp").touch()
    numbers = iter([b"\0" * 4, b"\0" * 4, b"\1" * 4])
    monkeypatch.setattr(os, "urandom", lambda size: next(numbers))
    (tmp_path / f".x.{os.getppid()}.00000000.tmp").touch()
    files.replace(str(tmp_path / "x"), b"new", 0o600)
    assert (tmp_path / "x").read_bytes() == b"new"


@as_root
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_of_another_user_on_the_way_is_not_followed(tmp_path: Path, absolute: bool) -> None:
    target, shared = tmp_path / "target", tmp_path / "shared"
    target.mkdir()
    shared.mkdir()
    trap = shared / "folder"
    trap.symlink_to(target if absolute else "../target")
    os.lchown(trap, NOBODY, NOBODY)
    with pytest.raises(UsageError, match="folder on its way is a link of another user") as refused:
        files.replace(str(trap / "x"), b"new", 0o600, "the output file")
    assert "real path" in refused.value.next_step
    with pytest.raises(UsageError, match="link of another user"):
        files.read_own(str(trap / "x"), 10, "the state file")
    with pytest.raises(UsageError, match="link of another user"):
        files.open_lock(str(trap / "x.lock"), "the lock file")
    assert left(target) == []


def test_links_of_our_own_are_followed_as_the_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    (deep / "up").symlink_to("../../link/..")
    monkeypatch.chdir(tmp_path)
    for path, place in {
        "x1": tmp_path,
        "./a/./x2": tmp_path / "a",
        "link/x3": deep,
        f"{tmp_path}/again/x4": deep,
        "link/../x5": tmp_path / "a",  # not tmp_path, as by the letters
        "a/b/up/x6": tmp_path / "a",
        "//" + str(tmp_path).lstrip("/") + "//x7": tmp_path,
    }.items():
        files.replace(path, path.encode(), 0o600)
        assert (place / path.rpartition("/")[2]).read_bytes() == path.encode()
        assert files.read_own(path, 1000, "the file") == path.encode()


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(UsageError, match="circle"):
        files.replace(str(tmp_path / "one" / "x"), b"", 0o600)


@pytest.mark.parametrize("path", ["", "/", "..", "folder/", "folder/.", "folder/.."])
def test_a_folder_is_no_file(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="not the name of a file"):
        files.replace(path, b"", 0o600)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    files.replace(str(tmp_path / "x"), b"new", 0o600)
    files.read_own(str(tmp_path / "x"), 10, "the file")
    for path in (tmp_path / "none" / "x", tmp_path / "x" / "y"):
        with pytest.raises(OSError, match=re.compile("No such|Not a")):
            files.replace(str(path), b"new", 0o600)
    assert os.listdir("/proc/self/fd") == before
