"""uWSGI: keep-alive by kind of socket, and its queue."""

from __future__ import annotations

from tests.software.stage import (
    Stage,
    ask,
    backlog,
    closed_after,
    count,
    eventually,
    program,
    request,
    sysctl,
)

APP = """
def application(environ, start):
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


def uwsgi(stage: Stage, *words: str) -> None:
    """Start uWSGI on 8080."""
    path = program("uwsgi-core", "uwsgi-core uwsgi-plugin-python3")
    stage.file("app.py", APP)
    own = ("--plugin", "python3,http", "--master", "--die-on-term", "--wsgi-file", "app.py")
    stage.start(path, *own, "--chdir", str(stage.folder), *words, port=8080)


def try_http_socket(stage: Stage) -> str:
    uwsgi(stage, "--http-socket", ":8080")
    assert backlog(8080) == 100
    for _ in range(5):
        with ask(8080) as client:
            closed_after(client, 3)
    assert eventually(lambda: count("TIME_WAIT", 8080) == 5)
    return "http-socket closes first after every response; queue 100"


def try_http11_socket(stage: Stage) -> str:
    uwsgi(stage, "--http11-socket", ":8080")
    with ask(8080) as client:
        for _ in range(5):
            assert "200" in request(client)
    return "http11-socket keeps connections"


def try_a_queue_above_somaxconn(stage: Stage) -> str:
    sysctl("net.core.somaxconn", "128")
    said = ""
    try:
        uwsgi(stage, "--http-socket", ":8080", "--listen", "1024")
    except AssertionError as error:
        said = str(error)
    assert "greater than the system max net.core.somaxconn" in said, said
    return "listen above net.core.somaxconn: it does not start"
