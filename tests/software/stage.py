"""Where a trial plays: a private network namespace, a folder, servers that end with it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twdiag.errors import TwdiagError
from twdiag.lab import network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HERE = "127.0.0.1"
_SBIN = "/usr/sbin:/sbin:/usr/lib/postgresql/15/bin:/usr/lib/postgresql/17/bin"
_STATES = {"ESTABLISHED": "01", "TIME_WAIT": "06", "CLOSE_WAIT": "08"}


class Skipped(Exception):
    """A trial that cannot run here; the message says why."""


def program(name: str, package: str) -> str:
    """Return the path of a program; raise Skipped where its package is absent."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if found is None:
        raise Skipped(f"{name} is not here: apt-get install {package}")
    return found


class Stage:
    """A folder, and the servers that were started; both end with the trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers: list[subprocess.Popen[bytes]] = []

    def file(self, name: str, text: str) -> str:
        """Write a file, and return its path."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def start(self, *words: str, port: int, seconds: float = 15.0) -> subprocess.Popen[bytes]:
        """Start a server and wait until it listens; raises AssertionError where it does not."""
        log = (self.folder / f"{Path(words[0]).name}.{port}.log").open("wb")
        server = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        self._servers.append(server)
        deadline = time.monotonic() + seconds
        while not listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{words[0]} does not listen: {Path(log.name).read_text()}")
            time.sleep(0.05)
        return server

    def end(self) -> None:
        """End every server, with the session that it leads."""
        for server in self._servers:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(server.pid, number)
                    server.wait(2)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def in_private(trial: Callable[[Stage], str]) -> str:
    """Run a trial in a child, in a network namespace of its own; return what it found out."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        kind, text = _outcome(trial)
        os.write(writable, f"{kind}\n{text}".encode()[:60_000])
        os._exit(0)
    os.close(writable)
    with open(readable, encoding="utf-8") as pipe:
        kind, _, text = pipe.read().partition("\n")
    os.waitpid(child, 0)
    if kind == "ok":
        return text
    raise Skipped(text) if kind == "skipped" else AssertionError(text or "the trial died")


def _outcome(trial: Callable[[Stage], str]) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="twdiag-try-") as name:
        folder = Path(name)
        folder.chmod(0o777)  # some servers become another user
        stage = Stage(folder)
        try:
            network.enter_private()
            return "ok", trial(stage)
        except Skipped as reason:
            return "skipped", str(reason)
        except TwdiagError as error:
            return "skipped", str(error)
        except AssertionError as error:
            return "failed", str(error) or traceback.format_exc(limit=-1)
        except Exception:
            return "failed", traceback.format_exc()
        finally:
            stage.end()


def listens(port: int) -> bool:
    """Return whether something listens on a port here."""
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in _rows())


def count(state: str, port: int, *, remote: bool = False) -> int:
    """Return how many sockets in a state have this local port, or this remote one."""
    end = f":{port:04X}"
    return sum(
        row[3] == _STATES[state] and row[2 if remote else 1].endswith(end) for row in _rows()
    )


def _rows() -> list[list[str]]:
    rows = []
    for name in ("tcp", "tcp6"):
        rows += [line.split() for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return rows


def backlog(port: int) -> int:
    """Return the length of the accept queue that a listener got."""
    return int(_listener(port)[2])


def queued(port: int) -> int:
    """Return how many connections wait in the accept queue of a listener."""
    return int(_listener(port)[1])


def _listener(port: int) -> list[str]:
    ss = program("ss", "iproute2")
    said = subprocess.run([ss, "-Hltn", f"sport = :{port}"], capture_output=True, text=True)
    return said.stdout.split()


def sysctl(name: str, value: str | None = None) -> str:
    """Return a sysctl of this namespace, after setting it where a value is given."""
    path = Path("/proc/sys") / name.replace(".", "/")
    if value is not None:
        path.write_text(value)
    return path.read_text().strip()


def ask(port: int, version: str = "1.1", headers: str = "", path: str = "/") -> socket.socket:
    """Send one HTTP request and return its connection once the answer has begun."""
    client = socket.create_connection((HERE, port), timeout=10)
    request(client, version, headers, path)
    return client


def request(client: socket.socket, version: str = "1.1", headers: str = "", path: str = "/") -> str:
    """Send a request over a connection, read its answer, and return the answer's head."""
    # As long as those of real clients are: shorter data could be last words.
    agent = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Trials/1.0\r\nAccept: text/html\r\n"
    client.sendall(f"GET {path} HTTP/{version}\r\nHost: here\r\n{agent}{headers}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = client.recv(65536)
        if not part:
            break
        answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += client.recv(65536)
    return head.decode("latin-1")


def closed_after(client: socket.socket, most: float) -> float:
    """Return after how many seconds the server closes an idle connection."""
    began = time.monotonic()
    client.settimeout(most)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        raise AssertionError(f"still open after {most:g} s") from None
    return time.monotonic() - began


class Pool:
    """Pooled connections that are used after pauses in turn, by threads of this process.

    They are not looked at before they are used.  `limit` is the idle time after which the pool
    closes one itself; `lost` counts the requests that had no answer.
    """

    def __init__(
        self, port: int, pauses: Iterable[float], limit: float | None, size: int, path: str
    ) -> None:
        self.lost = 0
        self._port, self._limit, self._path = port, limit, path
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._use, args=(cycle(pauses), n / 7), daemon=True)
            for n in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop using them."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _use(self, pauses: Iterator[float], delay: float) -> None:
        self._stopping.wait(delay)
        client: socket.socket | None = None
        for pause in pauses:
            if client is None:
                client = socket.create_connection((HERE, self._port), timeout=10)
            if "200" not in self._answer(client):
                self.lost += 1
                client.close()
                client = None
                continue
            if self._limit is not None and self._limit < pause:
                if self._stopping.wait(self._limit):
                    return
                client.close()
                client = None
                pause -= self._limit
            if self._stopping.wait(pause):
                return

    def _answer(self, client: socket.socket) -> str:
        try:
            return request(client, path=self._path)
        except ConnectionError:
            return ""


def watched_pool(
    port: int,
    pauses: Iterable[float],
    seconds: float,
    limit: float | None = None,
    path: str = "/",
) -> tuple[Any, int]:
    """Return (what keep-alive-race finds, requests lost) while a pool is used, as any user may."""
    from twdiag.engine.look import Question, looked
    from twdiag.rules import keep_alive_race

    pool = Pool(port, pauses, limit, 4, path)
    ending = threading.Timer(seconds - 1, pool.end)
    ending.start()
    report, _ = looked(Question(rules=(keep_alive_race.RULE,), interval=seconds))
    ending.join()
    assert len(report.findings) < 2
    return (report.findings[0] if report.findings else None), pool.lost


class Backend:
    """A server in threads of this process that answers each request, after a while, or holds it."""

    def __init__(self, port: int, *, answers: bool = True, seconds: float = 0.0) -> None:
        self.requests: list[str] = []
        self._answers = answers
        self._seconds = seconds
        self._listener = socket.create_server((HERE, port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    part = client.recv(65536)
                    if not part:
                        return
                    head += part
                self.requests.append(head.decode("latin-1"))
                if not self._answers:
                    threading.Event().wait()
                time.sleep(self._seconds)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if b"connection: close" in head.lower() or b"HTTP/1.0" in head:
                    return


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Return whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
