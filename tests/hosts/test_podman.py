"""Podman's own list and twdiag agree on the names of containers and of their namespaces.

The image is made of a static busybox, so that no registry is needed; storage and state live in a
folder of the test.  To have it run on Debian: apt install podman runc busybox-static.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from twdiag.engine import host
from twdiag.engine.look import Question
from twdiag.model.namespaces import Container
from twdiag.sources.live.namespaces.containers import container_of
from twdiag.sources.live.namespaces.entering import entered
from twdiag.sources.live.namespaces.search import find_namespaces, read_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED: Final = ("podman", "runc", "busybox", "conmon")
PLAIN: Final = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


class Podman:
    """A podman with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._words = (
            *("podman", "--root", str(folder / "storage"), "--runroot", str(folder / "run")),
            *("--tmpdir", str(folder / "tmp"), "--storage-driver", "vfs"),
            *("--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        )

    def __call__(self, *words: str, data: bytes = b"") -> str:
        done = subprocess.run(
            [*self._words, *words], input=data, capture_output=True, timeout=60, check=False
        )
        if done.returncode:
            pytest.skip(f"podman cannot run here: {done.stderr.decode().strip()}")
        return done.stdout.decode()

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return podman's own list by name."""
        found = json.loads(self("ps", "--format", "json"))
        return {container["Names"][0]: container for container in found}


def image() -> bytes:
    """Return an image that has busybox and nothing else."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    with io.BytesIO() as raw:
        with tarfile.open(fileobj=raw, mode="w") as archive:
            archive.add(os.path.realpath(busybox), "bin/busybox")
        return raw.getvalue()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Two containers: a web server with a network of its own, and a sidecar that shares it."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(NEEDED)}; missing: {', '.join(missing) or 'root'}")
    # Podman takes no path above 50 characters, which those of pytest can have.
    folder = tempfile.mkdtemp(prefix="twdiag-podman-")
    podman = Podman(Path(folder))
    podman("import", "-", "localhost/twdiag-test", data=image())
    run = ("run", "-d", "--rm", *PLAIN)
    busybox = ("localhost/twdiag-test", "/bin/busybox")
    try:
        serve = ("nc", "-l", "-p", "7110")
        podman(*run, "--name", "twdiag-web", "--network", "none", *busybox, *serve)
        podman(
            *run,
            "--name",
            "twdiag-side",
            "--network",
            "container:twdiag-web",
            *busybox,
            "sleep",
            "60",
        )
        yield podman
    finally:
        # Killed and removed here: stop leaves it to a conmon, which may never get the web server's
        # container away, since the sidecar needs that.
        podman("rm", "--force", "--ignore", "--time", "0", "--depend", "twdiag-web")
        assert not podman("ps", "-a", "-q")
        shutil.rmtree(folder, ignore_errors=True)


def test_each_process_belongs_to_the_container_that_podman_says(podman: Podman) -> None:
    listed = podman.listed()
    assert {"twdiag-web", "twdiag-side"} <= listed.keys()
    for name, container in listed.items():
        assert container_of(container["Pid"]) == Container("podman", container["Id"], name)


def test_the_owner_of_a_shared_network_names_it(podman: Podman) -> None:
    listed = podman.listed()
    pids = {listed[name]["Pid"] for name in ("twdiag-web", "twdiag-side")}
    (namespace,) = (n for n in find_namespaces().namespaces if pids & set(n.pids))
    assert pids == set(namespace.pids)
    assert namespace.label == "twdiag-web"
    assert "twdiag-web" in namespace.names
    assert namespace.usage is not None
    assert namespace.usage.inuse == 1
    with entered(namespace):
        assert read_usage() == namespace.usage


def leave_time_waits(port: int, count: int) -> None:
    """Listen, close so many connections at the server first, and be gone."""
    with socket.create_server(("127.0.0.1", port)) as server:
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", port)) as client:
                server.accept()[0].close()
                client.recv(1)


def test_a_finding_is_that_of_the_container_and_its_command_leads_there(podman: Podman) -> None:
    listed = podman.listed()
    web = listed["twdiag-web"]
    (namespace,) = (n for n in find_namespaces().namespaces if web["Pid"] in n.pids)
    with entered(namespace):
        leave_time_waits(7111, 25)
    report = host.look_at_all(Question(causes=False), 60)
    (found,) = (f for f in report.findings if f.netns == "twdiag-web")
    assert found.rule == "restart-blocked"
    assert found.namespace is not None
    assert found.namespace.container == Container("podman", web["Id"], "twdiag-web")
    command = found.advice[0].verify.partition(": ")[2]
    rows = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert len(rows.stdout.splitlines()) == 25
    alone = host.look_in("twdiag-web", Question(causes=False))
    assert [f.rule for f in alone.findings] == ["restart-blocked"]
    assert f"nsenter -t {found.namespace.pid} -n ss" in alone.findings[0].advice[0].verify
