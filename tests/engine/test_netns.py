"""The word behind --netns: one namespace, or an error that helps and makes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.namespaces.dwellers import dweller
from twdiag.engine.netns import choose, resolve
from twdiag.errors import UsageError
from twdiag.model.namespaces import Container, Namespace
from twdiag.sources.live.namespaces.entering import inside

ID = "0ffe3748db05029387e54c708aae33b7747ce28592dee90405f1aaf5be9cdf35"
HOST = Namespace("host", 1, 1, (1, 10), own=True)
BLUE = Namespace("blue", 2, 2, (20, 21), "sleep", ("/run/netns/blue",))
WEB = Namespace(
    "web_1", 3, 3, (30,), "nginx", ("/run/docker/netns/abc",), Container("docker", ID, "web_1")
)
POD = Namespace(
    "shop/web-5d8f", 4, 4, (40,), "pause", (), Container("cri-o", "ab" * 32, "shop/web-5d8f")
)
ALL = (HOST, BLUE, WEB, POD)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("host", HOST),
        ("10", HOST),
        ("blue", BLUE),
        ("/run/netns/blue", BLUE),
        ("21", BLUE),
        ("web_1", WEB),
        (ID, WEB),
        (ID[:12], WEB),
        (ID[:6], WEB),
        ("shop/web-5d8f", POD),
        ("web-5d8f", POD),
    ],
)
def test_each_kind_of_word_is_understood(word: str, meant: Namespace) -> None:
    assert choose(word, ALL) is meant


@pytest.mark.parametrize(
    ("word", "what", "next_step"),
    [
        ("blu", "did you mean 'blue'?", "blue, web_1, shop/web-5d8f"),
        ("web1", "did you mean 'web_1'?", "blue"),
        ("nothing-like-it", "container 'nothing-like-it'", "blue"),
        (ID[:5], "no network namespace", "blue"),
        ("999", "no process 999", "PID"),
        ("/run/netns/blu", "/run/netns/blu is no network namespace", "ls /run/netns"),
        ("", "container ''", "blue"),
        ("²", "container '²'", "blue"),
    ],
)
def test_a_typo_is_an_error_that_helps(word: str, what: str, next_step: str) -> None:
    with pytest.raises(UsageError) as error:
        choose(word, ALL)
    assert what in error.value.what
    assert next_step in error.value.next_step


def test_a_word_with_two_meanings_is_an_error_that_names_both() -> None:
    other = Namespace("web_1", 5, 5, (50,), container=Container("podman", "cd" * 32, "web_1"))
    with pytest.raises(UsageError, match="2 network namespaces: web_1, web_1") as error:
        choose("web_1", (*ALL, other))
    assert error.value.next_step.endswith("--netns 30")


def test_host_is_this_process_s_own_whatever_others_are_called() -> None:
    other = Namespace("host (another)", 5, 5, (50,), paths=("/run/netns/host",))
    assert choose("host", (*ALL, other)) is HOST
    assert choose("/run/netns/host", (*ALL, other)) is other


@given(st.text())
def test_any_word_is_a_namespace_or_an_error(word: str) -> None:
    try:
        found = choose(word, ALL)
    except UsageError as refused:
        found = None
        hint = refused.next_step
    assert found in ALL or hint


def test_a_process_and_its_file_mean_its_namespace() -> None:
    with dweller() as pid:
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        assert resolve(str(pid)).inode == inode
        assert resolve(f"/proc/{pid}/ns/net").inode == inode


def test_work_is_done_in_the_namespace_that_is_meant() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may enter")
    with dweller() as pid:
        inode = os.stat(f"/proc/{pid}/ns/net").st_ino
        assert inside(resolve(str(pid)), lambda: os.stat("/proc/self/ns/net").st_ino) == inode


def test_a_typo_makes_no_namespace() -> None:
    before = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    for word in ("twdiag-no-such", "/run/netns/twdiag-no-such"):
        with pytest.raises(UsageError):
            resolve(word)
    after = set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()
    assert "twdiag-no-such" not in after
    assert after - before == set()


@pytest.mark.parametrize("kind", ["file", "pipe", "folder", "other namespace"])
def test_a_file_that_is_no_network_namespace_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/proc/self/ns/mnt")
    with pytest.raises(UsageError, match="is no network namespace"):
        resolve(str(path))


def test_a_link_to_a_namespace_is_followed(tmp_path: Path) -> None:
    (tmp_path / "own").symlink_to("/proc/self/ns/net")
    assert resolve(str(tmp_path / "own")).own


def test_a_mounted_file_is_meant_by_path_and_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.touch()
    with dweller() as pid:
        done = subprocess.run(
            ["mount", "--bind", f"/proc/{pid}/ns/net", str(path)], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip("only root may mount a namespace")
    try:
        assert resolve(str(path)).inode == os.stat(path).st_ino
        assert resolve("kept").paths == (str(path),)
    finally:
        subprocess.run(["umount", str(path)], check=True)
