"""Tell which container, pod or unit a process belongs to, without asking a daemon.

Parsers take text and are pure.  The forms of cgroup paths are those of docker, podman, containerd,
cri-o, lxc, the kubelet (cgroupfs and systemd drivers, versions 1 and 2) and systemd itself; names
come from the command line of the process that watches the container (conmon, containerd-shim), or
from the runtime's own files where those may be read.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twdiag.model.namespaces import Container
from twdiag.sources.live.proc import read_stat, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HASH: Final = r"[0-9a-f]{64}"
_WORD: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_RUNTIMES: Final = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
}
# docker-ID.scope, crio-ID (cgroupfs), cri-containerd:ID (systemd's form inside of cgroupfs)
_PREFIXED: Final = re.compile(rf"({'|'.join(_RUNTIMES)})[-:]({_HASH}|{_WORD}?)(?:\.scope)?")
_PLAIN: Final = re.compile(_HASH)
_POD: Final = re.compile(
    r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
)
_UNIT: Final = re.compile(r"(?!user@\d+\.)(.+)\.service")
_LXC: Final = re.compile(rf"lxc\.payload\.({_WORD})")
_UNKNOWN: Final = "container"
_MOST_ANCESTORS: Final = 8
_MOST_BYTES: Final = 1 << 20
_DOCKER: Final = "/var/lib/docker/containers/{}/config.v2.json"
_BUNDLES: Final = (
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
    "/run/containers/storage/overlay-containers/{}/userdata/config.json",
)
# (pod's namespace, pod, container) in the annotations of containerd's CRI plugin and of cri-o.
_ANNOTATIONS: Final = (
    (
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.cri.container-name",
    ),
    ("io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"),
)


class Watcher(NamedTuple):
    """What the command line of a process that watches a container says of it."""

    runtime: str
    id: str
    name: str | None


def parse_cgroup(text: str) -> Container | None:
    """Return the container, else the unit, that /proc/PID/cgroup names; None for neither.

    Lines are "0::/system.slice/docker-ID.scope" or, in version 1, "4:memory:/docker/ID": a line
    that names a container wins over one that names a unit.
    """
    unit = None
    for line in text.splitlines():
        path = line.split(":", 2)[-1] if line.count(":") >= 2 else ""
        # runc writes systemd's "slice:prefix:name" as one part where it has no systemd to ask.
        path = path.replace(".slice:", ".slice/")
        parts = [part for part in path.split("/") if part not in ("", "..")]
        if container := _container_in(parts):
            return container
        unit = unit or _unit_in(parts)
    return unit


def _container_in(parts: Sequence[str]) -> Container | None:
    """Return the innermost container of a cgroup path, None where no part of it is one."""
    pod = next((match[1] for part in parts if (match := _POD.fullmatch(part))), None)
    pod = pod.replace("_", "-") if pod else None
    for at in range(len(parts) - 1, -1, -1):
        part, above = parts[at], parts[at - 1] if at else ""
        # conmon sits in a group of its own, named like that of the container that it watches.
        prefixed = _PREFIXED.fullmatch(part)
        if prefixed and not prefixed[2].startswith("conmon-") and prefixed[2]:
            return Container(_RUNTIMES[prefixed[1]], prefixed[2], None, pod)
        if _PLAIN.fullmatch(part):
            return Container("docker" if above == "docker" else _plain(pod), part, None, pod)
        if pod and _POD.fullmatch(above) and re.fullmatch(_WORD, part):
            return Container("kubernetes", part, None, pod)
        if above in ("lxc", "lxc.payload") and re.fullmatch(_WORD, part):
            return Container("lxc", part, part)
        if match := _LXC.fullmatch(part):
            return Container("lxc", match[1], match[1])
    return Container("kubernetes", "", None, pod) if pod else None


def _plain(pod: str | None) -> str:
    """Return the runtime of an id that stands alone."""
    return "kubernetes" if pod else _UNKNOWN


def _unit_in(parts: Sequence[str]) -> Container | None:
    """Return the innermost service of systemd; the one that manages a user's is left out."""
    for part in reversed(parts):
        if match := _UNIT.fullmatch(part):
            name = _unescaped_unit(match[1])
            return Container("systemd", f"{name}.service", name)
    return None


def _unescaped_unit(name: str) -> str:
    """Return a unit's name with \\x2d and the like undone: systemd.unit(5)."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)


def parse_command_line(raw: bytes) -> Watcher | None:
    """Return what a command line (/proc/PID/cmdline) says if it is a container's watcher.

    conmon has `-n NAME -c ID`, containerd-shim `-namespace NAMESPACE -id ID`; with docker the
    namespace is "moby".
    """
    words = [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")]
    program = words[0].rpartition("/")[2]
    if program == "conmon":
        identity = _value(words, "-c", "--cid")
        runtime = "podman" if any("podman" in word or "libpod" in word for word in words) else ""
        return Watcher(runtime or "cri-o", identity, _value(words, "-n", "--name") or None)
    if program.startswith("containerd-shim"):
        runtime = "docker" if _value(words, "-namespace") == "moby" else "containerd"
        return Watcher(runtime, _value(words, "-id"), None)
    return None


def _value(words: Sequence[str], *options: str) -> str:
    """Return the word behind an option, "" where there is none."""
    at = next((at for at, word in enumerate(words[:-1]) if word in options), None)
    return "" if at is None else words[at + 1]


def parse_bundle(text: str) -> str | None:
    """Return the name in a runtime's own file about a container, None where it has none.

    config.v2.json of docker has "Name"; config.json of an OCI bundle may have the annotations of
    Kubernetes, which give "namespace/pod/container".
    """
    import json

    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    name = found.get("Name")
    if isinstance(name, str) and name.strip("/"):
        return name.strip("/")
    return _annotated(found.get("annotations"))


def _annotated(annotations: Any) -> str | None:
    if not isinstance(annotations, dict):
        return None
    for keys in _ANNOTATIONS:
        parts = [annotations[key] for key in keys if isinstance(annotations.get(key), str)]
        if any(parts):
            return "/".join(part for part in parts if part)
    return None


def container_of(pid: int, proc: str = "/proc") -> Container | None:
    """Return what a process belongs to, None where /proc shows no container and no unit.

    The name is looked for in the command lines of its ancestors and, with the right to read them,
    in the runtime's files.
    """
    found = parse_cgroup(read_text(f"{proc}/{pid}/cgroup") or "")
    watched = _watched(pid, proc)
    if found is None or found.is_unit:
        return watched or found
    if found.name:
        return found
    runtime = watched.runtime if watched and found.runtime == _UNKNOWN else found.runtime
    name = watched.name if watched is not None and watched.id == found.id else None
    name = name or _name_in_files(found.id) or _name_of_pod(pid, found)
    return found._replace(runtime=runtime, name=name)


def _watched(pid: int, proc: str) -> Container | None:
    """Return the container whose watcher is among the ancestors of a process."""
    for ancestor in _ancestors(pid, proc):
        watcher = parse_command_line(_read_bytes(f"{proc}/{ancestor}/cmdline"))
        if watcher is not None and watcher.id:
            return Container(watcher.runtime, watcher.id, watcher.name)
    return None


def _ancestors(pid: int, proc: str) -> Iterator[int]:
    for _ in range(_MOST_ANCESTORS):
        stat = read_stat(pid, proc)
        if stat is None or not stat.parent:
            return
        yield stat.parent
        pid = stat.parent


def _name_in_files(identity: str) -> str | None:
    """Return the name in a file of the runtime, where there is one and it may be read."""
    if not re.fullmatch(_WORD, identity):
        return None
    for path in (_DOCKER, *_BUNDLES):
        text = read_text(path.format(identity))
        if text is not None and (name := parse_bundle(text)):
            return name
    return None


def _name_of_pod(pid: int, found: Container) -> str | None:
    """Return the hostname of a pod's container: the kubelet gives it the name of the pod."""
    return _hostname(pid) if found.pod else None


def _hostname(pid: int) -> str | None:
    """Return the first line of /etc/hostname in a container, None where it may not be read.

    What is inside of a container is not trusted: a link or a pipe there must not lead out of it.
    """
    opened: list[int] = []
    with contextlib.suppress(OSError):
        try:
            opened.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY))
            folder = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
            opened.append(os.open("etc", folder, dir_fd=opened[-1]))
            plain = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            opened.append(os.open("hostname", plain, dir_fd=opened[-1]))
            if stat.S_ISREG(os.fstat(opened[-1]).st_mode):
                line = os.read(opened[-1], 256).partition(b"\n")[0].strip()
                return os.fsdecode(line) or None
        finally:
            for descriptor in opened:
                os.close(descriptor)
    return None


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""
