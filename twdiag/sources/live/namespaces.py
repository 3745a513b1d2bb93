"""Find every network namespace of this host, and look into them one after the other.

Finding needs no right: the inode of /proc/PID/net/tcp is the same for the processes of one
namespace and no others (fs/proc/proc_net.c makes a tree for each), and mounts that keep a namespace
without a process stand in /proc/PID/mountinfo.  Entering needs CAP_SYS_ADMIN, or a user namespace
that belongs to this user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar, cast

from twdiag.errors import SourceError, SourceRefused, TwdiagError
from twdiag.model.namespaces import Namespace, Usage, by_business
from twdiag.model.snapshot import HOST_NETNS, Gap
from twdiag.sources.live.containers import container_of
from twdiag.sources.live.proc import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

T = TypeVar("T")

_CLONE_NEWUSER: Final = 0x10000000  # include/uapi/linux/sched.h
_CLONE_NEWNET: Final = 0x40000000
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_MOST_MOUNT_TABLES: Final = 256
_MOST_AGES: Final = 64
_MOST_NAMED: Final = 5
_BATCH: Final = 500
_USAGE: Final = re.compile(r"^TCP6?: inuse (\d+)(?: orphan \d+ tw (\d+))?", re.MULTILINE)
_NSFS: Final = re.compile(r"net:\[(\d{1,10})\]")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_RIGHTS: Final = "run as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE"


class Refused(SourceRefused):
    """A namespace may not be entered: a right is missing."""


class Vanished(SourceError):
    """A namespace has ended since it was found."""


class Found(NamedTuple):
    """Every namespace that can be told apart, and what may have been missed."""

    namespaces: tuple[Namespace, ...]
    gaps: tuple[Gap, ...] = ()

    @property
    def own(self) -> Namespace:
        """The namespace of this process."""
        return next(namespace for namespace in self.namespaces if namespace.own)


class Mount(NamedTuple):
    """A mount that keeps a network namespace: its inode, and the file that stands for it."""

    inode: int
    path: str


def parse_mounts(text: str) -> list[Mount]:
    """Return the network namespaces that /proc/PID/mountinfo shows as mounted (nsfs), in order.

    Lines are "36 27 0:4 net:[4026532246] /run/netns/blue rw shared:5 - nsfs nsfs rw", with blanks,
    tabs, newlines and backslashes in octal: proc_pid_mountinfo(5).
    """
    mounts = []
    # Not splitlines(): the kernel escapes "\n" and no other end of a line.
    for line in text.split("\n"):
        fields, dash, kind = line.partition(" - ")
        words = fields.split(" ")
        if not dash or not kind.startswith("nsfs ") or len(words) < 6:
            continue
        if match := _NSFS.fullmatch(words[3]):
            path = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), words[4])
            mounts.append(Mount(int(match[1]), path))
    return mounts


def parse_usage(sockstat: str | None, sockstat6: str | None) -> Usage | None:
    """Return how many sockets /proc/net/sockstat and sockstat6 tell of, None where neither does.

    A kernel without IPv6 has no sockstat6.
    """
    match = _USAGE.search(sockstat or "")
    if match is None or match[2] is None:
        return None
    match6 = _USAGE.search(sockstat6 or "")
    return Usage(int(match[1]) + (int(match6[1]) if match6 else 0), int(match[2]))


def read_usage(folder: str = "/proc/self/net") -> Usage | None:
    """Return how many TCP sockets the namespace of a /proc/PID/net has.  0.04 ms."""
    return parse_usage(read_text(f"{folder}/sockstat"), read_text(f"{folder}/sockstat6"))


def find_namespaces() -> Found:
    """Return every network namespace of this host; call it in the main thread.

    A namespace that neither a process nor a mount keeps (but a descriptor or a socket) is not
    found, nor one that only a thread other than its process's first is in.
    """
    groups = _groups()
    own_table = _inode("/proc/self/net/tcp")
    own_inode = _inode("/proc/self/ns/net")
    found = [
        _of_processes(table, pids, own_table, own_inode)
        for table, pids in sorted(groups.items(), key=lambda group: group[1][0])
    ]
    if own_table is not None and own_table not in groups:
        # This process entered it in a thread of its own, or /proc shows no numbers at all.
        found.append(_of_processes(own_table, [os.getpid()], own_table, own_inode))
    mounts = _mounts(found)
    named, unmatched = _with_paths(found, mounts)
    return Found(tuple(named), tuple(_gaps(unmatched)))


def _groups() -> dict[int, list[int]]:
    """Return the processes by the inode of their /proc/PID/net/tcp; 2 us a process."""
    groups: dict[int, list[int]] = {}
    for name in _names("/proc"):
        if name.isdecimal():
            # A process that ends meanwhile, and a zombie, has no such file.
            table = _inode(f"/proc/{name}/net/tcp")
            if table is not None:
                groups.setdefault(table, []).append(int(name))
    return groups


def _of_processes(
    table: int, pids: list[int], own_table: int | None, own_inode: int | None
) -> Namespace:
    own = table == own_table
    ordered = sorted(pids) if own else _oldest_first(pids)
    command = "" if own else _command(ordered[0])
    container = None if own else container_of(ordered[0])
    label = HOST_NETNS if own else container.label if container else f"{command} (pid {ordered[0]})"
    # Not every process may be looked at, and one is enough.
    inodes = (_inode(f"/proc/{pid}/ns/net") for pid in ordered[:_MOST_AGES])
    inode = own_inode if own else next((number for number in inodes if number), None)
    usages = (read_usage(f"/proc/{pid}/net") for pid in ordered)
    usage = next((usage for usage in usages if usage is not None), None)
    return Namespace(label, table, inode, tuple(ordered), command, (), container, usage, own)


def _oldest_first(pids: list[int]) -> list[int]:
    """Return processes with the oldest first: it made the namespace, later ones share it."""
    ages = {pid: _started(pid) for pid in sorted(pids)[:_MOST_AGES]}
    return sorted(pids, key=lambda pid: (ages.get(pid, float("inf")), pid))


def _started(pid: int) -> float:
    """Return when a process started, in ticks since boot; last of all where that is not shown."""
    # Field 22 of /proc/PID/stat; the name before it may hold blanks and brackets.
    words = (read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    return float(words[19]) if len(words) > 19 and words[19].isdigit() else float("inf")


def _command(pid: int) -> str:
    return (read_text(f"/proc/{pid}/comm") or "?").rstrip("\n")


def _mounts(found: Iterable[Namespace]) -> list[tuple[int, Mount]]:
    """Return the mounts that keep network namespaces, each with a process that sees it.

    Each mount namespace is read once, this process's first; a container's daemon may have one of
    its own.
    """
    mounts, seen = [(os.getpid(), mount) for mount in _mounts_of("self")], set()
    seen.add(_inode("/proc/self/ns/mnt"))
    read = 0
    representatives = [n.pid for n in found if n.pid is not None]
    for pid in (*representatives, *sorted(int(n) for n in _names("/proc") if n.isdecimal())):
        if read >= _MOST_MOUNT_TABLES:
            break
        table = _inode(f"/proc/{pid}/ns/mnt")
        # Without the right to tell mount namespaces apart, one process a namespace is read.
        if table in seen or (table is None and pid not in representatives):
            continue
        seen.add(table if table is not None else -pid)
        read += 1
        mounts += [(pid, mount) for mount in _mounts_of(pid)]
    return mounts


def _mounts_of(pid: int | str) -> list[Mount]:
    try:
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return []
    return parse_mounts(text) if " - nsfs " in text else []


def _with_paths(
    found: list[Namespace], mounts: list[tuple[int, Mount]]
) -> tuple[list[Namespace], list[str]]:
    """Return the namespaces with the paths that stand for them, and those that only mounts keep.

    Where the inode of a namespace with processes is not shown, a mount may be its own: such mounts
    are returned by their paths, so that nothing is counted twice.
    """
    paths: dict[int, list[str]] = {}
    for pid, mount in mounts:
        path = mount.path if pid == os.getpid() else f"/proc/{pid}/root{mount.path}"
        known = paths.setdefault(mount.inode, [])
        if mount.path not in (text.partition("/root")[2] or text for text in known):
            known.append(path)
    named = [replace(n, paths=tuple(paths.pop(n.inode or 0, ()))) for n in found]
    named = [replace(n, label=_name_of(n.paths)) if n.paths and _nameless(n) else n for n in named]
    if any(namespace.inode is None for namespace in named):
        return named, [places[0] for places in paths.values()]
    alone = [
        Namespace(_name_of(places), inode=inode, paths=tuple(places))
        for inode, places in paths.items()
    ]
    return named + alone, []


def _nameless(namespace: Namespace) -> bool:
    """Return whether a path's name says more than the label: no container, not this process's."""
    container = namespace.container
    return not namespace.own and (container is None or container.is_unit)


def _name_of(paths: Iterable[str]) -> str:
    """Return what people call a namespace that has a file: with `ip netns` the file's name."""
    return next(iter(paths)).rpartition("/")[2]


def _gaps(unmatched: list[str]) -> Iterator[Gap]:
    if unmatched:
        names = _few(path.rpartition("/")[2] for path in unmatched)
        why = f"mounted network namespaces ({names}) may hold no process, and then go unseen"
        yield Gap("netns", why, _RIGHTS, partial=True)
    if not os.path.exists("/proc/1"):
        why = "/proc hides the processes of others (hidepid), and their namespaces with them"
        yield Gap("netns", why, "run as root, or as a member of the group of /proc", partial=True)
    elif _inode("/proc/self/ns/pid") not in (None, _FIRST_PID_NAMESPACE):
        why = "this is a container (a PID namespace of its own): those beside it are not visible"
        yield Gap("netns", why, "run on the host itself", partial=True)


def _few(names: Iterable[str]) -> str:
    """Return up to five names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


# Entering.


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
    child = os.fork()
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
                    raise SourceError(what, "run as root") from error
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
    return _inode(f"/proc/{pid}/ns/user") not in (None, _inode("/proc/self/ns/user"))


def _in_child(namespace: Namespace, work: Callable[[], T]) -> T:
    """Do some work in a child process that enters the user namespace first."""
    import pickle

    reading, writing = os.pipe()
    child = os.fork()
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
        raise SourceError(f"the look into {namespace.label} ended early", "run as root")
    done, value = pickle.loads(answer)
    if not done:
        raise value
    return cast("T", value)


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
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _open_namespace(namespace: Namespace, stack: contextlib.ExitStack) -> int:
    """Return a descriptor of a namespace: opened first, then checked, since numbers are reused."""
    denied = False
    for pid in namespace.pids[:_MOST_AGES]:
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
        raise Refused(f"no permission to enter the network namespace of {namespace.label}", _RIGHTS)
    raise Vanished(f"the network namespace of {namespace.label} has ended")


def _is(namespace: Namespace, descriptor: int, pid: int | None) -> bool:
    """Return whether an open descriptor is this namespace's."""
    if namespace.inode is not None:
        return os.fstat(descriptor).st_ino == namespace.inode
    return pid is not None and _inode(f"/proc/{pid}/net/tcp") == namespace.table


def _come_back(home: int) -> None:
    """Return to this process's own namespace; to go on elsewhere would mix up two of them."""
    number = _setns_errno(home, _CLONE_NEWNET)
    if number:
        raise RuntimeError(f"this process cannot leave a namespace: {os.strerror(number)}")


def _setns(descriptor: int, kind: int, namespace: Namespace) -> None:
    number = _setns_errno(descriptor, kind)
    if number == errno.EPERM:
        raise Refused(f"no permission to enter the network namespace of {namespace.label}", _RIGHTS)
    if number:
        why = os.strerror(number)
        raise SourceError(f"the network namespace of {namespace.label} cannot be entered: {why}")


def _setns_errno(descriptor: int, kind: int) -> int:
    """Enter a namespace; return 0, or the errno.  os.setns() is there from Python 3.12 on."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)) == 0
    return 0 if done else ctypes.get_errno()


# Going round.


class Visit(NamedTuple, Generic[T]):
    """One namespace with what some work found there; `why_not` says why it was left out.

    `why_not` is "" where it was looked at, else "rights", "time", "gone" or the error's sentence.
    """

    namespace: Namespace
    result: T | None = None
    why_not: str = ""


def visit(
    namespaces: tuple[Namespace, ...],
    work: Callable[[Namespace], T],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Visit[T]]:
    """Yield what some work finds in each namespace that holds sockets, the busiest first.

    The own one comes first.  No visit begins once so many seconds have passed: the rest is yielded
    as left out for lack of time.  Nothing is said of empty ones, which are not entered; one whose
    usage is not known is entered to see whether it is empty.
    """
    until = clock() + seconds
    for namespace in by_business(namespaces):
        if clock() >= until and not namespace.own:
            yield Visit(namespace, None, "time")
            continue
        try:
            found = inside(namespace, lambda n=namespace: _unless_empty(n, work))  # type: ignore[misc]
        except Refused:
            yield Visit(namespace, None, "rights")
        except Vanished:
            yield Visit(namespace, None, "gone")
        except TwdiagError as error:
            yield Visit(namespace, None, error.what)
        else:
            if found is not None:
                yield Visit(namespace, found[0])


def _unless_empty(namespace: Namespace, work: Callable[[Namespace], T]) -> tuple[T] | None:
    """Return what the work finds, None in a namespace without sockets that nobody saw before."""
    if namespace.usage is None and not namespace.own:
        usage = read_usage()
        if usage is not None and not usage.total:
            return None
    return (work(namespace),)


def left_out(visits: Iterable[Visit[T]]) -> list[Gap]:
    """Return one gap for each reason for which namespaces were left out, with their names."""
    reasons: dict[str, list[str]] = {}
    for one in visits:
        if one.why_not and one.why_not != "gone":
            reasons.setdefault(one.why_not, []).append(one.namespace.label)
    return [_left_out(why, labels) for why, labels in reasons.items()]


def _left_out(why: str, labels: list[str]) -> Gap:
    many = "1 network namespace was" if len(labels) == 1 else f"{len(labels)} namespaces were"
    text = f"{many} not looked at ({_few(labels)}): "
    if why == "rights":
        return Gap("netns", text + "no permission", _RIGHTS, partial=True)
    if why == "time":
        how = f"look at one alone: --netns {labels[0]}"
        return Gap("netns", text + "no time was left", how, partial=True)
    return Gap("netns", text + why, "run again", partial=True)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
