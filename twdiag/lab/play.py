"""Running scenarios: each in a process of its own, many at a time, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import threading
import time
import traceback
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar, cast

from twdiag.lab import kernel
from twdiag.lab.stage import LabError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from twdiag.lab.scenario import Scenario

T = TypeVar("T")

_LENGTH: Final = struct.Struct("!Q")
_CHUNK: Final = 1 << 16
_GRACE: Final = 5.0
# A fork between another play's pipe() and close() would inherit its writing end.
_FORKING: Final = threading.Lock()


class LabTimeout(LabError):
    """A play took longer than its caller wanted to wait."""


class _Stopped(BaseException):
    """The caller asks the director to clean up and end."""


class _RemoteTraceback(Exception):
    """Where in the director's process an error came from; the cause of the re-raised error."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


class Play(Generic[T]):
    """A scenario being played; `result` waits for what its observer returns."""

    def __init__(self, scenario: Scenario, pid: int, pipe: int) -> None:
        self.scenario = scenario
        self._caller = os.getpid()
        self._pid: int | None = pid
        self._pipe = pipe
        self._outcome: tuple[bool, object, str] | None = None

    def result(self, timeout: float | None = None) -> T:
        """Return what the observer returned, or raise what build or the observer raised.

        When it returns or raises, all processes and namespaces of the play are gone.
        """
        if self._outcome is None:
            try:
                self._outcome = self._receive(timeout)
            finally:
                self.close()
        succeeded, value, text = self._outcome
        if succeeded:
            return cast("T", value)
        raise cast("BaseException", value) from _RemoteTraceback(text)

    def close(self) -> None:
        """End the play, whether its result was fetched or not."""
        if self._pid is None or self._caller != os.getpid():
            return
        pid, self._pid = self._pid, None
        os.close(self._pipe)
        try:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _GRACE
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.002)
        except ChildProcessError:
            pass
        except BaseException as error:
            # The actors die with their director (PR_SET_PDEATHSIG).
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if not isinstance(error, TimeoutError):
                raise

    def __enter__(self) -> Play[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _receive(self, timeout: float | None) -> tuple[bool, object, str]:
        if self._pid is None:
            raise LabError(f"the play of {self.scenario.name} is closed")
        deadline = None if timeout is None else time.monotonic() + timeout
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        outcome: tuple[bool, object, str] = pickle.loads(self._read(length, deadline))
        return outcome

    def _read(self, length: int, deadline: float | None) -> bytes:
        received = bytearray()
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while len(received) < length:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not poll.poll(None if left is None else left * 1000):
                raise LabTimeout(
                    f"the scenario {self.scenario.name} is not done yet",
                    f"it needs at least {self.scenario.settle:g} s",
                )
            chunk = os.read(self._pipe, min(_CHUNK, length - len(received)))
            if not chunk:
                raise LabError(f"the scenario {self.scenario.name} ended without a result")
            received += chunk
        return bytes(received)


def start(
    scenario: Scenario, observe: Callable[[Stage], T], *, settle: float | None = None
) -> Play[T]:
    """Start to play a scenario; `settle` replaces the scenario's own.

    `observe` runs inside the private namespace; what it returns must be picklable.  The play ends
    when the calling thread ends.
    """
    caller = os.getpid()
    wait = scenario.settle if settle is None else settle
    with _FORKING:
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except BaseException:
            os.close(reading)
            os.close(writing)
            raise
        if pid == 0:
            _direct(scenario, observe, wait, caller, writing)
        os.close(writing)
    return Play(scenario, pid, reading)


def play(scenario: Scenario, observe: Callable[[Stage], T]) -> T:
    """Play a scenario and return what its observer returns."""
    return start(scenario, observe).result()


def _direct(
    scenario: Scenario, observe: Callable[[Stage], T], settle: float, caller: int, pipe: int
) -> NoReturn:
    """Be the process that directs the play: set the stage, look, clean up, report."""
    try:
        kernel.die_with_parent(caller, signal.SIGKILL)
        signal.signal(signal.SIGTERM, _stop)
        # Ctrl-C reaches all processes of the terminal; the caller decides and then stops this one.
        # A handler, not SIG_IGN, because programs that the observer starts would inherit that.
        signal.signal(signal.SIGINT, lambda *_: None)
        outcome = _pickled(_perform(scenario, observe, settle))
        _write(pipe, _LENGTH.pack(len(outcome)) + outcome)
        os._exit(0)
    finally:
        os._exit(1)


def _perform(
    scenario: Scenario, observe: Callable[[Stage], T], settle: float
) -> tuple[bool, object, str]:
    try:
        stage = Stage()
        try:
            scenario.build(stage)
            time.sleep(settle)
            return True, observe(stage), ""
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            stage.end()
    except _Stopped:
        raise
    except BaseException as error:
        trace = error.trace if isinstance(error, LabError) else ""
        return False, error, trace or traceback.format_exc()


def _pickled(outcome: tuple[bool, object, str]) -> bytes:
    """Return the outcome as bytes, or an error in its place where it does not survive the trip."""
    try:
        message = pickle.dumps(outcome)
        pickle.loads(message)
    except Exception as error:
        _, value, text = outcome
        problem = LabError(f"{type(value).__name__} cannot be handed back: {error}")
        return pickle.dumps((False, problem, text))
    return message


def _write(pipe: int, message: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        for at in range(0, len(message), _CHUNK):
            rest = message[at : at + _CHUNK]
            while rest:
                rest = rest[os.write(pipe, rest) :]


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise _Stopped
