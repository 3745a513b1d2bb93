"""Nobody is told to become what he is: what root lacks is named, and where it can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.running import SOURCE
from tests.sources.live.confinement import become_nobody, in_child
from twdiag.sources.live import rights
from twdiag.sources.live.probes import CAPABILITIES

ALL = frozenset(CAPABILITIES)
NAMES = st.sampled_from(sorted(CAPABILITIES))


@given(st.lists(NAMES, min_size=1, max_size=3, unique=True), st.sets(NAMES) | st.none())
def test_only_who_is_not_root_is_told_to_become_it(names: list[str], held: set[str] | None) -> None:
    wanted, has = tuple(names), None if held is None else frozenset(held)
    as_user = rights.told(wanted, root=False, held=has)
    assert as_user == f"run as root, or with {' and '.join(wanted)}"
    for limited in (False, True):
        as_root = rights.told(wanted, root=True, held=has, limited=limited)
        assert "run as root," not in as_root
        assert any(w in as_root for w in ("run on the host", "root of the host", "see dmesg"))


def test_what_root_lacks_is_named_with_what_gives_it_to_a_container() -> None:
    assert rights.told(rights.READ_OTHERS, root=True, held=ALL - {"CAP_SYS_PTRACE"}) == (
        "this root lacks CAP_SYS_PTRACE: run on the host, or the container with "
        "--cap-add=SYS_PTRACE"
    )
    assert "AppArmor" in rights.told(rights.READ_OTHERS, root=True, held=ALL)
    assert "user namespace" in rights.told(rights.ENTER, root=True, held=ALL, limited=True)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("         0          0 4294967295\n", True),
        ("         0       1000          1\n", False),
        ("         0     100000      65536\n", False),
        ("0 0 1\n1 100000 65536\n", False),
        ("", False),
    ],
)
def test_the_host_maps_all_users(text: str, whole: bool) -> None:
    assert rights.all_users(text) is whole


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    assert isinstance(rights.all_users(text), bool)


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can lack a right that it had")


def doctor(*before: str) -> str:
    """Return what `twdiag doctor` says behind some words that take rights from it."""
    if shutil.which(before[0]) is None:
        pytest.skip(f"needs {before[0]}")
    words = [*before, sys.executable, "-m", "twdiag", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=SOURCE, timeout=60)
    if not done.stdout:
        pytest.skip(done.stderr)
    return done.stdout


@ROOT
def test_a_root_that_lacks_capabilities_is_told_which() -> None:
    lost = "-sys_ptrace,-net_admin"
    said = doctor("setpriv", "--bounding-set", lost, "--inh-caps", lost, "--")
    assert "this root lacks CAP_SYS_PTRACE: run on the host" in said
    assert "--cap-add=NET_ADMIN" in said
    assert "run as root" not in said


@ROOT
def test_the_root_of_a_user_namespace_is_told_that_it_is_none() -> None:
    lost = "-sys_ptrace"
    within = ("unshare", "--user", "--map-root-user", "setpriv", "--bounding-set", lost)
    said = doctor(*within, "--inh-caps", lost, "--")
    assert "this root is that of a user namespace: run as root of the host" in said


@ROOT
def test_nobody_is_told_to_become_root() -> None:
    said = in_child(lambda: rights.to_get("CAP_SYS_PTRACE") if become_nobody() else "")
    if not said:
        pytest.skip("this namespace knows no other user")
    assert said == "run as root, or with CAP_SYS_PTRACE"
