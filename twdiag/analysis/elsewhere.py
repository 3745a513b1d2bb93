"""Make what a finding advises work for its namespace: a host's `sysctl -w` does not reach a pod."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from twdiag.model.findings import Advice
from twdiag.model.snapshot import HOST_NETNS
from twdiag.wording import command_in, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.model.findings import Finding, Step
    from twdiag.model.namespaces import Container, Namespace

_OF_A_NAMESPACE: Final = frozenset({"ss", "sysctl", "nstat", "ping", "tcpdump", "conntrack", "nft"})
"""Commands that show or change the network namespace that they run in."""

_LOOKS: Final = frozenset({"diagnose", "port", "sockets", "trace", "watch"})
"""Commands of twdiag that look into a network namespace: all take --netns."""

_THERE: Final = "on that host"
"""Where the command runs at the other end: it must not be led into the namespace of this one."""

_SETTING: Final = re.compile(r'sysctl -w ([a-z0-9_.]+)=("[^"]*"|[^\s,;]+)')
_IP_NETNS: Final = re.compile(r"(?:/var)?/run/netns/([A-Za-z0-9_.][A-Za-z0-9_.-]*)")
_ENGINES: Final = {"docker": "docker", "podman": "podman", "containerd": "nerdctl"}
_SAFE: Final = frozenset(
    {
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_fin_timeout",
    }
)
"""Of the sysctls that rules advise, those that a kubelet allows without being told to.

ip_local_reserved_ports since Kubernetes 1.27, tcp_fin_timeout since 1.29:
https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
"""


def placed(finding: Finding, namespace: Namespace) -> Finding:
    """Return a finding of another namespace with commands that work there when they are pasted."""
    container = finding.container or namespace.container
    way = _beside(namespace, finding.pids)
    return finding._replace(
        namespace=namespace,
        netns=namespace.label,
        advice=tuple(_advised(finding.advice, way, container)),
        steps=tuple(_moved_step(step, way) for step in finding.steps),
        rows_command=moved(finding.rows_command, way),
    )


def _beside(namespace: Namespace, pids: tuple[int, ...]) -> Namespace:
    """Return a namespace with these processes last: a finding's own may soon be restarted."""
    return replace(namespace, pids=tuple(sorted(namespace.pids, key=lambda pid: pid in pids)))


def entering(namespace: Namespace) -> str:
    """Return the command in front of one that is to run in a namespace, "" where none leads in."""
    path = _lasting_path(namespace)
    if path is None and namespace.pid is not None:
        return f"nsenter -t {namespace.pid} -n"
    path = path or next(iter(namespace.paths), None)
    return f"nsenter --net={quoted(path)}" if path else ""


def _lasting_path(namespace: Namespace) -> str | None:
    """Return a file that leads in whichever process ends, None where there is none.

    A process is often the very one that the advice restarts; the check after it must still work.
    """
    return next((path for path in namespace.paths if not path.startswith("/proc/")), None)


def _word_for(namespace: Namespace) -> str:
    """Return what --netns takes: the name of `ip netns`, a file, else a process; "" for none."""
    path = _lasting_path(namespace)
    if path is None and namespace.pid is not None:
        return str(namespace.pid)
    path = path or next(iter(namespace.paths), "")
    name = _IP_NETNS.fullmatch(path)
    # A number is a process to --netns, and "host" this process's own namespace.
    named = name is not None and not name[1].isdigit() and name[1] != HOST_NETNS
    return quoted(name[1] if name and named else path) if path else ""


def moved(text: str, namespace: Namespace) -> str:
    """Return a text that may end with a command, with one that works in the namespace."""
    command = command_in(text)
    head, program = text[: len(text) - len(command)], command.partition(" ")[0]
    if _THERE in head:
        return text
    if program == "twdiag":
        return head + _twdiag_in(command, namespace)
    way_in = entering(namespace)
    return f"{head}{way_in} {command}" if program in _OF_A_NAMESPACE and way_in else text


def _twdiag_in(command: str, namespace: Namespace) -> str:
    """Return a call of twdiag that looks into the namespace, where it is to look at all."""
    words = command.split(" ")
    if len(words) > 1 and not words[1].startswith("-") and words[1] not in _LOOKS:
        return command  # explain, say
    if "--all-netns" in words:
        return command
    target = _word_for(namespace)
    return f"{command} --netns {target}" if target else command


def _moved_step(step: Step, namespace: Namespace) -> Step:
    return step._replace(run=moved(step.run, namespace))


def _advised(
    advice: tuple[Advice, ...], namespace: Namespace, container: Container | None
) -> Iterator[Advice]:
    for item in advice:
        yield item._replace(how=moved(item.how, namespace), verify=moved(item.verify, namespace))
        if setting := _SETTING.search(item.how):
            yield _kept(setting[1], setting[2].strip('"'), container)


def _kept(name: str, value: str, container: Container | None) -> Advice:
    """Return how a sysctl stays set: a namespace begins with the kernel's defaults."""
    do = f"Keep {name} beyond the next start"
    lost = "a new namespace begins with the kernel's defaults, not with the host's"
    if container is not None and (container.pod or container.runtime == "kubernetes"):
        how = f'put {{name: {name}, value: "{value}"}} into securityContext.sysctls of the pod'
        allow = f"unsafe: the kubelet has to allow it, --allowed-unsafe-sysctls={name}"
        return Advice(do, how, lost if name in _SAFE else allow)
    engine = None if container is None else _ENGINES.get(container.runtime)
    if engine:
        setting = quoted(f"{name}={value}")
        return Advice(do, f"start the container with {engine} run --sysctl {setting} ...", lost)
    if container is not None and container.runtime == "lxc":
        return Advice(
            do, f"put lxc.sysctl.{name} = {value} into the container's configuration", lost
        )
    return Advice(do, "set it where the namespace is made", lost)
