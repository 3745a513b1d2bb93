"""Be in another network namespace for a while, and come back whatever happens.

Entering needs CAP_SYS_ADMIN, or a user namespace that belongs to this user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Final, TypeVar, cast

from twdiag.errors import SourceError, SourceRefused, TwdiagError
from twdiag.sources.live import rights
from twdiag.sources.live.namespaces.search import inode_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from twdiag.model.namespaces import Namespace

T = TypeVar("T")

_CLONE_NEWUSER: Final = 0x10000000  # include/uapi/linux/sched.h
_CLONE_NEWNET: Final = 0x40000000
_MOST_TRIED: Final = 64
_BATCH: Final = 500


class Refused(SourceRefused):
    """A namespace may not be entered: a right is missing."""


class Vanished(SourceError):
    """A namespace has ended since it was found."""


@contextlib.contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """Be in another network namespace for a while, and come back whatever happens.

    Only the main thread may enter: /proc/net and /proc/self belong to it, so that elsewhere two
    namespaces would mix.  Raises Refused where a right is missing, Vanished where the namespace has
    ended.  A namespace of another user's user namespace is entered by root alone; see visit().
    """
    if threading.get_native_id() != os.getpid():
        raise RuntimeError("only the main thread may enter a namespace")
    if namespace.own:
        yield
        return
    with contextlib.ExitStack() as stack:
        home = _open("/proc/self/ns/net", stack)
        target = _open_namespace(namespace, stack)
        _setns(target, _CLONE_NEWNET, namespace)
        try:
            yield
        finally:
            _come_back(home)


def inside(namespace: Namespace, work: Callable[[], T]) -> T:
    """Return what some work returns that is done in a network namespace.

    Raises as entered() does.  Where only the owner of a user namespace may enter (containers of an
    ordinary user), a child process does the work, since nobody leaves a user namespace; the result
    must then be one that pickle takes.
    """
    try:
        with entered(namespace):
            return work()
    except Refused:
        if namespace.pid is None or not _has_own_users(namespace.pid):
            raise
    return _in_child(namespace, work)


def stream_inside(namespace: Namespace, read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield what is read in a network namespace, one after the other; see inside().

    Whoever takes the values is in the namespace meanwhile, unless a child process reads them.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(entered(namespace))
        except Refused:
            if namespace.pid is None or not _has_own_users(namespace.pid):
                raise
        else:
            yield from read()
            return
    yield from _streamed_by_child(namespace, read)


def _streamed_by_child(namespace: Namespace, read: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Yield what a child process reads that enters the user namespace first, in batches."""
    import pickle

    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            with os.fdopen(writing, "wb") as pipe:
                ended = _outcome(namespace, lambda: _write_batches(read(), pipe))
                pickle.dump(ended, pipe)
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            while True:
                try:
                    done, value = pickle.load(pipe)
                except EOFError as error:
                    what = f"the look into {namespace.label} ended early"
                    raise SourceError(what, "run again") from error
                if not done:
                    raise value
                if value is None:
                    return
                yield from value
    finally:
        os.waitpid(child, 0)


def _write_batches(values: Iterator[T], pipe: BinaryIO) -> None:
    import pickle
    from itertools import islice

    while batch := list(islice(values, _BATCH)):
        pickle.dump((True, batch), pipe)


def _has_own_users(pid: int) -> bool:
    """Return whether a process is in another user namespace than this one, as far as is shown."""
    return inode_of(f"/proc/{pid}/ns/user") not in (None, inode_of("/proc/self/ns/user"))


def _in_child(namespace: Namespace, work: Callable[[], T]) -> T:
    """Do some work in a child process that enters the user namespace first."""
    import pickle

    reading, writing = os.pipe()
    child = _fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(reading)
            answer = pickle.dumps(_outcome(namespace, work))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.waitpid(child, 0)
    if not answer:
        raise SourceError(f"the look into {namespace.label} ended early", "run again")
    done, value = pickle.loads(answer)
    if not done:
        raise value
    return cast("T", value)


def _fork() -> int:
    """Return what os.fork() does.

    From Python 3.12 on it warns of other threads.  That of a time limit only waits, for a lock that
    no child asks for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _outcome(namespace: Namespace, work: Callable[[], T]) -> tuple[bool, T | BaseException]:
    try:
        with contextlib.ExitStack() as stack:
            # Both are opened before: the child's rights change with its user namespace.
            users = _open(f"/proc/{namespace.pid}/ns/user", stack)
            target = _open_namespace(namespace, stack)
            _setns(users, _CLONE_NEWUSER, namespace)
            _setns(target, _CLONE_NEWNET, namespace)
            return True, work()
    except TwdiagError as error:
        return False, error
    except Exception as error:
        return False, SourceError(f"the look into {namespace.label} failed: {error}")


def _open(path: str, stack: contextlib.ExitStack) -> int:
    # A container can put a pipe where its namespace's file was: that must not hold up the opening.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_namespace(namespace: Namespace, stack: contextlib.ExitStack) -> int:
    """Return a descriptor of a namespace: opened first, then checked, since numbers are reused."""
    denied = False
    for pid in namespace.pids[:_MOST_TRIED]:
        try:
            descriptor = _open(f"/proc/{pid}/ns/net", stack)
        except OSError as error:
            denied |= error.errno in (errno.EACCES, errno.EPERM)
            continue
        if _is(namespace, descriptor, pid):
            return descriptor
    for path in namespace.paths:
        try:
            descriptor = _open(path, stack)
        except OSError as error:
            denied |= error.errno in (errno.EACCES, errno.EPERM)
            continue
        if _is(namespace, descriptor, None):
            return descriptor
    if denied:
        raise Refused(
            f"no permission to enter the network namespace of {namespace.label}",
            rights.to_get(*rights.ENTER),
        )
    raise Vanished(f"the network namespace of {namespace.label} has ended")


def _is(namespace: Namespace, descriptor: int, pid: int | None) -> bool:
    """Return whether an open descriptor is this namespace's."""
    if namespace.inode is not None:
        return os.fstat(descriptor).st_ino == namespace.inode
    return pid is not None and inode_of(f"/proc/{pid}/net/tcp") == namespace.table


def _come_back(home: int) -> None:
    """Return to this process's own namespace; to go on elsewhere would mix up two of them."""
    number = _setns_errno(home, _CLONE_NEWNET)
    if number:
        raise RuntimeError(f"this process cannot leave a namespace: {os.strerror(number)}")


def _setns(descriptor: int, kind: int, namespace: Namespace) -> None:
    number = _setns_errno(descriptor, kind)
    if number == errno.EPERM:
        raise Refused(
            f"no permission to enter the network namespace of {namespace.label}",
            rights.to_get(*rights.ENTER),
        )
    if number:
        why = os.strerror(number)
        raise SourceError(f"the network namespace of {namespace.label} cannot be entered: {why}")


def _setns_errno(descriptor: int, kind: int) -> int:
    """Enter a namespace; return 0, or the errno."""
    if sys.version_info >= (3, 12):
        try:
            os.setns(descriptor, kind)
        except OSError as error:
            return error.errno or errno.EINVAL
        return 0
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)) == 0
    return 0 if done else ctypes.get_errno()
