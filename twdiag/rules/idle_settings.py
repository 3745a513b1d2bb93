"""Name the settings of both ends that decide how long an idle connection is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.wording import pause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twdiag.model.snapshot import Owner
    from twdiag.software import Idle, Software

_COMMON: Final = (
    "aws-alb", "nginx", "gcp-lb", "envoy", "go", "requests", "traefik", "dotnet-httpclient",
)  # fmt: skip
"""Balancers, proxies and clients that keep connections for a minute or more, as shipped."""

_MOST: Final = 4


def server_settings(processes: Iterable[Owner]) -> str:
    """Return what decides the idle timeout of a server's processes, as far as they are known."""
    from twdiag.software import find

    known = {s.name: s for owner in processes if (s := find(owner.name)) is not None}
    told = [text for software in known.values() for text in _of_server(software)]
    if not told:
        return "its keep-alive setting, to 65 s or more behind a balancer with 60 s"
    return "; ".join(told)


def _of_server(software: Software) -> Iterator[str]:
    for idle in software.idle_timeouts:
        if idle.seconds == 0:
            continue  # it keeps no connection: not what was seen
        changes = [s.change for s in software.server if s.setting and s.setting == idle.setting]
        change = f", for example {changes[0]}" if changes else ""
        yield f"{software.title}'s {idle.setting}, {_as_shipped(idle)}{change}"
    if not software.idle_timeouts:  # it has none until one is set (HAProxy)
        closing = [s for s in software.server if s.topic == "closes-first" and "idle" in s.text]
        for statement in closing[:1]:
            yield f"{software.title}'s {statement.setting}, for example {statement.change}"


def client_settings(names: Iterable[str], timeout: float) -> str:
    """Return what decides how long clients keep connections: known ones, else common ones.

    Of common ones those whose requests a server with this idle timeout can lose.
    """
    from twdiag.software import Idle, find, load, may_race

    server = Idle(timeout, "", "")
    known = [s for name in names if (s := find(name)) is not None and s.keeps_idle]
    if known:
        return "; ".join(_of_client(s, s.keeps_idle[0]) for s in known)
    racing = [
        _of_client(software, idle)
        for software in map(load, _COMMON)
        for idle in software.keeps_idle[:1]
        if may_race(server, idle)
    ]
    if not racing:
        return "the idle limit of their connection pools"
    return f"the idle limit of their pools; too long are {'; '.join(racing[:_MOST])}"


def _of_client(software: Software, idle: Idle) -> str:
    setting = f"'s {idle.setting}" if idle.setting else ""
    return f"{software.title}{setting}, {_as_shipped(idle)}"


def _as_shipped(idle: Idle) -> str:
    time = "no limit" if idle.seconds is None else pause(idle.seconds)
    extra = ", ".join(filter(None, (idle.versions, idle.condition)))
    return f"{time} as shipped{f' ({extra})' if extra else ''}"
