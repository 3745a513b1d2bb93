"""Tinyproxy: one request per connection, on both sides."""

from __future__ import annotations

from tests.software.stage import HERE, Backend, Stage, ask, closed_after, count, eventually, program


def try_one_request_per_connection(stage: Stage) -> str:
    backend = Backend(9001)
    text = f"Port 8080\nListen {HERE}\nTimeout 600\nMaxClients 20\nAllow {HERE}\n"
    config = stage.file("tinyproxy.conf", text)
    stage.start(program("tinyproxy", "tinyproxy"), "-d", "-c", config, port=8080)
    for _ in range(5):
        with ask(8080, path=f"http://{HERE}:9001/") as client:
            closed_after(client, 3)
    assert all("connection: close" in head.lower() for head in backend.requests)
    assert eventually(lambda: count("TIME_WAIT", 8080) == 5)
    return "it asks the server to close, and closes first towards the client"
