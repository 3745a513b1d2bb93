"""Containers, pods and units are named from /proc alone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twdiag.model.namespaces import Container
from twdiag.sources.live.namespaces import containers
from twdiag.sources.live.namespaces.containers import (
    Watcher,
    container_of,
    parse_bundle,
    parse_cgroup,
    parse_command_line,
)

if TYPE_CHECKING:
    from pathlib import Path

ID = "0ffe3748db05029387e54c708aae33b7747ce28592dee90405f1aaf5be9cdf35"
UID = "1b2c3d4e-0f1a-2b3c-4d5e-6f708192a3b4"
SLICE = "kubepods-burstable-pod" + UID.replace("-", "_") + ".slice"
STATIC = "a1" * 16
HEX_ID = st.text("0123456789abcdef", min_size=64, max_size=64)

PATHS = {
    f"/docker/{ID}": Container("docker", ID),
    f"/system.slice/docker-{ID}.scope": Container("docker", ID),
    f"/../docker-{ID}.scope": Container("docker", ID),
    f"/libpod_parent/libpod-{ID}": Container("podman", ID),
    f"/machine.slice/libpod-{ID}.scope/container": Container("podman", ID),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope": Container(
        "podman", ID
    ),
    f"/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{ID}.scope": Container(
        "containerd", ID, None, UID
    ),
    f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope": Container(
        "cri-o", ID, None, UID
    ),
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{SLICE}/cri-containerd-{ID}.scope": Container(
        "containerd", ID, None, UID
    ),
    f"/kubepods/burstable/pod{UID}/{ID}": Container("kubernetes", ID, None, UID),
    f"/kubepods/burstable/pod{UID}/shop1": Container("kubernetes", "shop1", None, UID),
    f"/kubepods/pod{STATIC}/{ID}": Container("kubernetes", ID, None, STATIC),
    f"/kubepods/burstable/pod{UID}": Container("kubernetes", "", None, UID),
    f"/system.slice/containerd.service/kubepods-pod{UID}.slice:cri-containerd:{ID}": Container(
        "containerd", ID, None, UID
    ),
    f"/k8s.io/{ID}": Container("container", ID),
    "/lxc/web": Container("lxc", "web", "web"),
    "/lxc.payload.web": Container("lxc", "web", "web"),
    "/lxc.payload/web/system.slice/cron.service": Container("lxc", "web", "web"),
    "/system.slice/nginx.service": Container("systemd", "nginx.service", "nginx"),
    r"/system.slice/system-getty.slice/getty@tty1.service": Container(
        "systemd", "getty@tty1.service", "getty@tty1"
    ),
    r"/system.slice/a\x2db.service": Container("systemd", "a-b.service", "a-b"),
    "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service": Container(
        "systemd", "app.service", "app"
    ),
    "/user.slice/user-1000.slice/user@1000.service/init.scope": None,
    "/user.slice/user-1000.slice/session-1.scope": None,
    f"/machine.slice/libpod-conmon-{ID}.scope": None,
    f"/system.slice/crio-conmon-{ID}.scope": None,
    "/": None,
    "": None,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("line", ["0::{}", "4:memory:{}", "9:name=systemd:/\n4:memory:{}\n0::/"])
def test_each_form_of_a_cgroup_path_is_told(path: str, line: str) -> None:
    assert parse_cgroup(line.format(path)) == PATHS[path]


def test_a_container_wins_over_the_unit_that_runs_it() -> None:
    text = f"1:name=systemd:/system.slice/docker.service\n0::/docker/{ID}\n"
    assert parse_cgroup(text) == Container("docker", ID)


def test_the_innermost_container_is_the_one() -> None:
    inner = "ab" * 32
    assert parse_cgroup(f"0::/docker/{ID}/docker/{inner}") == Container("docker", inner)


def test_labels_are_names_else_short_ids() -> None:
    assert Container("docker", ID, "web").label == "web"
    assert Container("docker", ID).label == ID[:12]
    assert Container("containerd", "shop1").label == "shop1"
    assert Container("kubernetes", "", None, UID).label == f"pod {UID}"


@given(st.text(), st.text())
@example("0::", "/")
def test_no_cgroup_text_breaks_the_parser(text: str, path: str) -> None:
    for each in (text, f"0::{path}", f"0::/kubepods/pod{UID}/{path}"):
        found = parse_cgroup(each)
        assert found is None or found.runtime


@given(HEX_ID, st.sampled_from(["docker-{}.scope", "libpod-{}.scope", "crio-{}", "docker/{}"]))
def test_every_id_comes_back(identity: str, form: str) -> None:
    found = parse_cgroup(f"0::/some.slice/{form.format(identity)}\n")
    assert found is not None
    assert found.id == identity


def line(*words: str) -> bytes:
    return "\0".join(words).encode() + b"\0"


def test_a_watcher_names_its_container() -> None:
    podman = line("/usr/bin/conmon", "-c", ID, "-n", "web", "--exit-command", "/usr/bin/podman")
    assert parse_command_line(podman) == Watcher("podman", ID, "web")
    crio = line("/usr/libexec/crio/conmon", "-c", ID, "-n", "k8s_web")
    assert parse_command_line(crio) == Watcher("cri-o", ID, "k8s_web")
    shim = line("/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "shop1")
    assert parse_command_line(shim) == Watcher("containerd", "shop1", None)
    docker = line("/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", ID)
    assert parse_command_line(docker) == Watcher("docker", ID, None)
    assert parse_command_line(line("/bin/sh", "-c", "conmon")) is None
    assert parse_command_line(b"") is None


def test_an_option_without_its_value_is_no_value() -> None:
    assert parse_command_line(line("conmon", "-n", "web", "-c")) == Watcher("cri-o", "", "web")


@given(st.binary())
def test_no_command_line_breaks_the_parser(raw: bytes) -> None:
    parse_command_line(raw)
    parse_command_line(b"conmon\0" + raw)


def test_names_in_the_files_of_runtimes() -> None:
    assert parse_bundle('{"Name": "/web_1", "ID": "x"}') == "web_1"
    cri = {
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "web-5d8f",
        "io.kubernetes.cri.container-name": "nginx",
    }
    assert parse_bundle(json.dumps({"annotations": cri})) == "shop/web-5d8f/nginx"
    del cri["io.kubernetes.cri.container-name"]
    assert parse_bundle(json.dumps({"annotations": cri})) == "shop/web-5d8f"
    crio = {"io.kubernetes.pod.name": "web", "io.kubernetes.container.name": "nginx"}
    assert parse_bundle(json.dumps({"annotations": crio})) == "web/nginx"
    assert parse_bundle('{"annotations": {"other": "x"}}') is None


JSON = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["Name", "annotations"]), inner)
    ),
)


@given(JSON | st.text())
def test_no_file_of_a_runtime_breaks_the_parser(value: object) -> None:
    for text in (json.dumps(value), str(value), "[" * 100_000):
        found = parse_bundle(text)
        assert found is None or found


def test_this_process_belongs_to_something_or_to_nothing() -> None:
    found = container_of(os.getpid())
    assert found is None or found.label


def test_a_process_that_is_gone_belongs_to_nothing() -> None:
    assert container_of(2**22 + 1) is None


@pytest.mark.parametrize("kind", ["file", "link", "pipe", "folder link", "folder", "none"])
def test_the_hostname_of_a_container_leads_nowhere_else(kind: str, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may change the root folder of a process")
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    root = tmp_path / "root"
    (root / "elsewhere").mkdir(parents=True)
    (root / "elsewhere" / "hostname").write_text("secret\n")
    if kind == "folder link":
        (root / "etc").symlink_to("/elsewhere")
    else:
        (root / "etc").mkdir()
        place = root / "etc" / "hostname"
        if kind == "file":
            place.write_text("web-5d8f\nmore\n")
        elif kind == "link":
            place.symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
    ready, tell = os.pipe()
    stay, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.chroot(root)
        os.write(tell, b".")
        os.read(stay, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        assert containers._hostname(pid) == ("web-5d8f" if kind == "file" else None)
    finally:
        os.close(end)
        os.waitpid(pid, 0)
        for descriptor in (ready, tell, stay):
            os.close(descriptor)
