"""The private namespace of one scenario, and the processes that act in it."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pickle
import signal
import socket
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from twdiag.errors import TwdiagError
from twdiag.lab import kernel, network
from twdiag.lab.states import count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twdiag.tcp import State

DEADLINE: Final = 10.0
"""How many seconds a step may take; a loaded machine needs a fraction of a second."""

_POLL: Final = 0.01
_LARGEST_MESSAGE: Final = 1 << 17
_FAREWELL: Final = 2.0


class LabError(TwdiagError):
    """A scenario did not come about; `trace` is the traceback of the actor that failed."""

    trace: str = ""


class Intercom:
    """One end of the channel between build() and an actor; whole values travel on it."""

    def __init__(self, end: socket.socket, other: str) -> None:
        self._end = end
        self._other = other

    def say(self, value: object) -> None:
        """Send a value."""
        try:
            self._end.send(pickle.dumps(value))
        except ConnectionError as error:
            raise LabError(f"{self._other} is gone") from error

    def hear(self, timeout: float | None = DEADLINE) -> Any:
        """Return the next value; `timeout` None waits as long as the other end lives."""
        self._end.settimeout(timeout)
        try:
            message = self._end.recv(_LARGEST_MESSAGE)
        except TimeoutError as error:
            raise LabError(f"no word from {self._other} for {timeout} s") from error
        except ConnectionError:
            message = b""
        if not message:
            raise LabError(f"{self._other} is gone")
        value = pickle.loads(message)
        if isinstance(value, LabError):
            raise value
        return value

    def close(self) -> None:
        """Hang up: the other end's hear() fails."""
        self._end.close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._end.fileno()


class Actor(Intercom):
    """A process of the scenario, seen from build()."""

    def __init__(self, name: str, pid: int, end: socket.socket) -> None:
        super().__init__(end, f"the process {name!r}")
        self.name = name
        self.pid = pid
        self._reaped = False

    def leave(self) -> None:
        """Let the process end by itself: its work hears that the line is closed."""
        self.close()
        deadline = time.monotonic() + _FAREWELL
        while not self._reap(os.WNOHANG) and time.monotonic() < deadline:
            time.sleep(_POLL)
        self.kill()

    def kill(self) -> None:
        """End the process at once and wait until it is gone."""
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
            self._reap(0)
        self.close()

    def _reap(self, options: int) -> bool:
        if not self._reaped:
            self._reaped = os.waitpid(self.pid, options)[0] == self.pid
        return self._reaped


class Stage:
    """The private namespace in which a scenario's processes live.

    `actors` are the processes in the order of their entry; `notes` is where build() leaves what an
    observer should know, `later` what the programs do only while somebody watches.
    """

    def __init__(self) -> None:
        network.enter_private()
        self.actors: list[Actor] = []
        self.notes: dict[str, object] = {}
        self.later: list[Callable[[], object]] = []
        self._peer: int | None = None

    def sysctl(self, name: str, value: str) -> None:
        """Set a sysctl, such as net.ipv4.tcp_tw_reuse, of the private namespace."""
        if not name.startswith("net."):
            raise ValueError(f"{name} is not a sysctl of a network namespace")
        # Not open().write(): its buffer hides the EINVAL of a bad value.
        file = os.open("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY)
        try:
            os.write(file, value.encode())
        finally:
            os.close(file)

    def go_on(self) -> None:
        """Let the programs do what build() has left for later."""
        for deed in self.later:
            deed()

    def peer(self) -> str:
        """Return the address of a second namespace, which is made on first use.

        A veth pair joins them: 10.77.0.1 here, 10.77.0.2 there.
        """
        if self._peer is None:
            self._peer = network.connect_peer()
        return network.PEER_ADDRESS

    def spawn(
        self, name: str, work: Callable[..., None], *args: object, peer: bool = False
    ) -> Actor:
        """Start a process of this name that runs work(line, *args); it ends when work returns."""
        if peer:
            self.peer()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        director = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(director, signal.SIGKILL)
                end = _forget_parent(far, self._peer if peer else None)
                kernel.set_name(name)
                _act(Intercom(end, "the director"), name, work, *args)
            finally:
                os._exit(0)
        far.close()
        actor = Actor(name, pid, near)
        self.actors.append(actor)
        return actor

    def wait_for(self, wanted: Mapping[State, int], port: int | None = None) -> None:
        """Wait until this namespace has as many sockets of these states as wanted.

        `port` counts only sockets with this local port.
        """
        deadline = time.monotonic() + DEADLINE
        while any((seen := count_states(port))[state] != n for state, n in wanted.items()):
            if time.monotonic() > deadline:
                want = ", ".join(f"{n} {state.name}" for state, n in wanted.items())
                have = ", ".join(f"{n} {state.name}" for state, n in seen.items())
                raise LabError(f"the kernel shows {have or 'no sockets'} instead of {want}")
            time.sleep(_POLL)

    def end(self) -> None:
        """End every process; the namespaces go with the last of them."""
        for actor in self.actors:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                actor.kill()


def _act(line: Intercom, name: str, work: Callable[..., None], *args: object) -> None:
    """Do an actor's work; its last words are the error that ends it."""
    try:
        work(line, *args)
    except Exception as error:
        problem = LabError(f"the process {name!r} failed: {error}")
        problem.trace = traceback.format_exc()
        with contextlib.suppress(LabError):
            line.say(problem)


def _forget_parent(end: socket.socket, namespace: int | None) -> socket.socket:
    """Keep nothing of the forking process but one socket, and enter a namespace if given."""
    # Objects of the parent must not be finalised here: they would close descriptors by number.
    gc.freeze()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if namespace is not None:
        kernel.setns(namespace)
    # Above the standard streams, which the parent may have been started without.
    kept = fcntl.fcntl(end.detach(), fcntl.F_DUPFD_CLOEXEC, 3)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd != kept:
            with contextlib.suppress(OSError):
                os.close(fd)
    return socket.socket(fileno=kept)
