"""The idle times on the page are those of the programs' files, whose sources they have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from twdiag.explain.library import FOLDER
from twdiag.software import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twdiag.software import Idle

PAGE: Final = (FOLDER / "topics" / "idle-timeouts.md").read_text(encoding="utf-8")
FILES: Final = {
    "Gunicorn (not sync)": "gunicorn",
    "Apache HTTP Server": "apache",
    "Node.js": "nodejs",
    "Uvicorn": "uvicorn",
    "Hypercorn": "hypercorn",
    "Cowboy": "cowboy",
    "Tomcat": "tomcat",
    "Jetty": "jetty",
    "Puma": "puma",
    "nginx": "nginx",
    "Kestrel": "kestrel",
    "Go": "go",
    "httpx": "httpx",
    "nginx to an upstream": "nginx",
    "AWS ALB": "aws-alb",
    ".NET": "dotnet-httpclient",
    "reqwest": "reqwest",
    "Envoy": "envoy",
    "Google's load balancer": "gcp-lb",
    "requests and urllib3": "requests",
}
UNITS: Final = {"s": 1, "min": 60, "h": 3600}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (side, program, idle time) of the page's tables."""
    side = ""
    for names, time in re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE):
        if time == "idle time":
            side = "server" if "server" in names else "client"
            continue
        for name in names.split(", "):
            yield side, name, time


def seconds(time: str) -> list[float | None]:
    """Return the times of a cell; None is "never"."""
    found = [float(n) * UNITS[unit] for n, unit in re.findall(r"(\d+) (s|min|h)\b", time)]
    return list(found) or [None]


@pytest.mark.parametrize(("side", "name", "time"), list(rows()))
def test_an_idle_time_on_the_page_is_that_of_the_programs_file(
    side: str, name: str, time: str
) -> None:
    software = load(FILES[name])
    known: tuple[Idle, ...] = software.idle_timeouts if side == "server" else software.keeps_idle
    assert set(seconds(time)) <= {idle.seconds for idle in known}
    assert seconds(time)[0] == known[0].seconds


def test_the_page_has_both_sides() -> None:
    assert {side for side, _, _ in rows()} == {"server", "client"}
    assert {name for _, name, _ in rows()} == set(FILES)
