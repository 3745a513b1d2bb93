"""Which runtime a process is: real programs, and files that are none."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.live.processes.blocked import NOBODY, as_user, blocked, wait_until
from twdiag.sources.live.processes.runtime import (
    has_go_note,
    parse_container,
    parse_elf,
    parse_maps,
    read_runtime,
)

if TYPE_CHECKING:
    from pathlib import Path

    from twdiag.sources.live.processes.runtime import ProcessRuntime

ID = "0123456789abcdef" * 4


def runtime_of(words: list[str], mapped: str = "") -> ProcessRuntime:
    """Return what a program is told to be once it has mapped a library."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def ready() -> bool:
            with open(f"/proc/{process.pid}/maps") as file:
                return mapped in file.read()

        wait_until(ready)
        found = read_runtime(process.pid)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert found is not None
    assert found.place.pid == found.place.inner == process.pid
    return found


def test_python() -> None:
    found = runtime_of([sys.executable, "-c", "import time; time.sleep(600)"], "libc.so")
    assert (found.runtime.name, found.sure) == ("cpython", True)


def test_a_native_program() -> None:
    found = runtime_of(["sleep", "600"], "libc.so")
    assert found.runtime.name == "native"
    assert found.symbols is not None


@pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")
def test_node() -> None:
    found = runtime_of(["node", "-e", "setTimeout(() => {}, 600000)"], "libc.so")
    assert found.runtime.name == "nodejs"


@pytest.mark.skipif(not shutil.which("java"), reason="Java is not installed")
def test_java(tmp_path: Path) -> None:
    source = tmp_path / "Wait.java"
    source.write_text(
        "class Wait { public static void main(String[] a) throws Exception "
        "{ Thread.sleep(600000); } }"
    )
    assert runtime_of(["java", str(source)], "libjvm.so").runtime.name == "jvm"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as another user")
def test_without_the_right_only_the_name_tells() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        found = as_user(NOBODY, partial(read_runtime, pid))
    assert found is not None
    assert not found.sure
    assert found.symbols is None


def test_a_process_that_is_gone() -> None:
    with blocked(partial(time.sleep, 600)) as pid:
        pass
    assert read_runtime(pid) is None


def test_maps() -> None:
    text = (
        b"7f00-7f10 r-xp 00000000 fd:01 123 /usr/lib/jvm/lib/server/libjvm.so\n"
        b"7f20-7f30 r-xp 00000000 fd:01 124 /usr/lib/libpython3.11.so.1.0 (deleted)\n"
        b"7f40-7f50 rw-p 00000000 00:00 0 [heap]\n"
        b"7f60-7f70 r--p 00000000 fd:01 125 /usr/share/a file\n"
    )
    assert parse_maps(text) == {"libjvm.so", "libpython3.11.so.1.0"}


@given(st.binary(max_size=300))
def test_any_maps(data: bytes) -> None:
    assert all("/" not in name for name in parse_maps(data))


@pytest.mark.parametrize(
    ("path", "enter"),
    [
        (f"0::/system.slice/docker-{ID}.scope", ("docker", "exec")),
        (f"12:memory:/docker/{ID}", ("docker", "exec")),
        (f"0::/machine.slice/libpod-{ID}.scope/container", ("podman", "exec")),
        (
            f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
            ("crictl", "exec", "-i"),
        ),
        (
            f"0::/kubepods/burstable/pod01234567-89ab-cdef-0123-456789abcdef/{ID}",
            ("crictl", "exec", "-i"),
        ),
    ],
)
def test_containers(path: str, enter: tuple[str, ...]) -> None:
    assert parse_container(path) == (*enter, ID[:12])


@pytest.mark.parametrize("path", ["0::/", "0::/system.slice/docker.service", "", "0::/docker/12"])
def test_what_is_no_container(path: str) -> None:
    assert parse_container(path) == ()


@given(st.text(max_size=200))
def test_any_cgroup(text: str) -> None:
    assert len(parse_container(text)) in (0, 3, 4)


def test_a_go_note() -> None:
    other = struct.pack("=III", 4, 20, 3) + b"GNU\0" + b"x" * 20
    go = struct.pack("=III", 4, 83, 4) + b"Go\0\0" + b"id" * 42
    assert has_go_note(go)
    assert has_go_note(other + go)
    assert not has_go_note(other)


@given(st.binary(max_size=300))
def test_any_note_and_any_elf(data: bytes) -> None:
    has_go_note(data)
    assert parse_elf(data) is None or data.startswith(b"\x7fELF")


@given(st.binary(min_size=64, max_size=400))
def test_any_elf_header(data: bytes) -> None:
    elf = parse_elf(b"\x7fELF\x02" + data)
    assert elf is not None
    assert len(elf.notes) <= 8
