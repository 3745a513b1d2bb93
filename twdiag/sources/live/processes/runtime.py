"""Tell which runtime a process is, and how to reach it: executable, mapped files, cgroup.

The executable and the mapped files need the rights of its owner or CAP_SYS_PTRACE; without them
the process's name tells, less surely.  ELF: elf(5); Go's note: cmd/link/internal/ld/elf.go.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.software.runtimes import ProcessPlace, Runtime, recognise
from twdiag.sources.live.proc import read_bytes
from twdiag.sources.live.processes.threads import parse_status

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTAINER: Final = re.compile(
    r"(?:^|[/-])(?P<kind>docker|libpod|cri-containerd|crio)[/-](?P<id>[0-9a-f]{64})(?:\.scope)?(?:/|$)"
)
# A pod's cgroup below cgroupfs, without a scope: /kubepods/burstable/podUID/ID.
_POD: Final = re.compile(r"/kubepods/.*?pod[0-9a-f-]{36}/(?P<id>[0-9a-f]{64})(?:/|$)")
_ENTER: Final = {
    "docker": ("docker", "exec"),
    "libpod": ("podman", "exec"),
    "cri-containerd": ("crictl", "exec", "-i"),
    "crio": ("crictl", "exec", "-i"),
}
_SHORT_ID: Final = 12
_PT_NOTE: Final = 4
_GO_NOTE: Final = b"Go\0\0"
_LARGEST_NOTE: Final = 1 << 12


class Elf(NamedTuple):
    """Where an ELF file keeps what is looked for: notes as (offset, size), the section headers."""

    notes: tuple[tuple[int, int], ...]
    sections_at: int
    section_size: int
    sections: int
    names: int


@dataclass(frozen=True, slots=True)
class ProcessRuntime:
    """What runs in a process: its runtime, where it runs, whether its executable has symbols.

    `sure` is false where only the process's name told; `symbols` is None where that was not seen.
    """

    runtime: Runtime
    place: ProcessPlace
    symbols: bool | None
    sure: bool


def read_runtime(pid: int) -> ProcessRuntime | None:
    """Return what runs in a process, None where it is gone."""
    try:
        status = parse_status(read_bytes(f"/proc/{pid}/status"))
    except OSError:
        return None
    if status is None:
        return None
    place = _place(pid, status.inner or pid)
    try:
        executable = os.readlink(f"/proc/{pid}/exe")
        mapped = parse_maps(read_bytes(f"/proc/{pid}/maps"))
    except OSError:
        # The name of an interpreter's process can be its script's: only a known name tells.
        return ProcessRuntime(recognise(status.name, ()), place, None, sure=False)
    go, symbols = _examine(f"/proc/{pid}/exe")
    return ProcessRuntime(recognise(executable, mapped, go), place, symbols, sure=True)


def parse_maps(data: bytes) -> frozenset[str]:
    """Return the names of the mapped shared objects in /proc/PID/maps, without their folders."""
    names = set()
    for line in data.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith(b"/"):
            path = fields[5].removesuffix(b" (deleted)")
            name = path.rpartition(b"/")[2]
            if b".so" in name:
                names.add(os.fsdecode(name))
    return frozenset(names)


def parse_container(text: str) -> tuple[str, ...]:
    """Return the command that enters the container of /proc/PID/cgroup's text, () without one."""
    for line in text.splitlines():
        path = line.split(":", 2)[-1]
        match = _CONTAINER.search(path)
        if match:
            return (*_ENTER[match["kind"]], match["id"][:_SHORT_ID])
        pod = _POD.search(path)
        if pod:
            return (*_ENTER["crio"], pod["id"][:_SHORT_ID])
    return ()


def _place(pid: int, inner: int) -> ProcessPlace:
    try:
        enter = parse_container(os.fsdecode(read_bytes(f"/proc/{pid}/cgroup")))
    except OSError:
        enter = ()
    # From inside of the same container its name is of no use.
    if enter and _same_namespace(pid):
        enter = ()
    if not enter and inner != pid:
        enter = ("nsenter", "-t", str(pid), "-m", "-p")
    return ProcessPlace(pid, inner, enter)


def _same_namespace(pid: int) -> bool:
    """Say whether a process sees the same files as this one."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def _examine(path: str) -> tuple[bool, bool | None]:
    """Return (whether an executable is Go's, whether it has debugging symbols)."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return False, None
    try:
        elf = parse_elf(os.pread(file, 1 << 12, 0))
        if elf is None:
            return False, None
        go = any(has_go_note(os.pread(file, min(s, _LARGEST_NOTE), at)) for at, s in elf.notes)
        return go, any(name in _DEBUGGING for name in _section_names(file, elf))
    except OSError:
        return False, None
    finally:
        os.close(file)


_DEBUGGING: Final = frozenset({b".debug_info", b".zdebug_info", b".symtab"})


def parse_elf(head: bytes) -> Elf | None:
    """Return where a 64-bit ELF file of this machine's byte order keeps its notes and sections.

    `head` are its first 4096 bytes; None where it is another file, or cut.
    """
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[4] != 2:
        return None
    program_at, sections_at = struct.unpack_from("=QQ", head, 32)
    size, count, section_size, sections, names = struct.unpack_from("=5H", head, 54)
    notes = []
    for at in range(program_at, program_at + size * count, max(size, 1)):
        if size < 56 or at + 56 > len(head):
            break
        kind, _, offset, _, _, in_file = struct.unpack_from("=IIQQQQ", head, at)
        if kind == _PT_NOTE and offset < 1 << 62:
            notes.append((offset, in_file))
    return Elf(tuple(notes), sections_at, section_size, sections, names)


def has_go_note(data: bytes) -> bool:
    """Say whether a note segment holds Go's build id (name "Go", type 4)."""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("=III", data, at)
        name = data[at + 12 : at + 12 + name_size]
        if kind == 4 and name == _GO_NOTE:
            return True
        at += 12 + (name_size + 3 & ~3) + (size + 3 & ~3)
    return False


def _section_names(file: int, elf: Elf) -> Iterator[bytes]:
    """Yield the names of an ELF file's sections."""
    if elf.section_size != 64 or not elf.names < elf.sections <= 1 << 12:
        return
    if elf.sections_at >= 1 << 62:
        return
    table = os.pread(file, 64 * elf.sections, elf.sections_at)
    rows = list(struct.iter_unpack("=IIQQQQIIQQ", table[: len(table) // 64 * 64]))
    if elf.names >= len(rows):
        return
    _, _, _, _, at, size, *_ = rows[elf.names]
    if at >= 1 << 62:
        return
    strings = os.pread(file, min(size, 1 << 16), at)
    for row in rows:
        yield strings[row[0] :].partition(b"\0")[0]
