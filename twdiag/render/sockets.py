"""Write sockets one after the other, as lines of text, of JSON or of CSV."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from twdiag.analysis.row import SocketSide
from twdiag.wording import endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from twdiag.engine.socket_rows import SocketRow
    from twdiag.model.namespaces import Container
    from twdiag.model.snapshot import Owner

_WIDE: Final = 120
_ARROW: Final = {SocketSide.CLIENT: "->", SocketSide.SERVER: "<-"}
_SIDES: Final = {SocketSide.CLIENT: "client", SocketSide.SERVER: "server", SocketSide.UNKNOWN: "?"}
_STATES: Final = {"ESTABLISHED": "ESTAB"}
_FORMULA: Final = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet takes for a formula."""

COLUMNS: Final = (
    "netns",
    "state",
    "role",
    "closed_first",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "age_min_s",
    "age_max_s",
    "left_s",
    "recv_q",
    "send_q",
    "retransmissions",
    "uid",
    "inode",
    "queued",
    "pids",
    "processes",
    "users",
    "container",
    "unit",
    "mptcp",
)
"""The columns of CSV."""


class SocketTextLines:
    """Writes one line for each socket; `width` is the terminal's, None where there is none.

    Below 120 columns only ports of local ends are shown, and what does not fit stands on a line of
    its own; without a terminal nothing is cut or broken.
    """

    def __init__(self, out: TextIO, width: int | None, *, several: bool = False) -> None:
        self._out = out
        self._width = width
        self._narrow = width is not None and width < _WIDE
        self._several = several
        # A wide terminal has room for whole IPv6 addresses.
        self._end = min(47, max(21, 21 + ((width or 0) - 140) // 2))

    def head(self) -> None:
        """Write what the columns are."""
        if self._narrow:
            head = f"{'STATE':10} {'ROLE':6} {'FIRST':5} {'AGE':>5} {'LEFT':>4} {'RECV-Q':>6}"
            self._write(*self._fitted(f"{head} {'PROCESS':{self._room()}}", "PORT, REMOTE"))
            return
        head = (
            f"{'STATE':11} {'ROLE':6} {'FIRST':5} {'AGE':>6} {'LEFT':>4} {'RECV-Q':>7}"
            f" {'SEND-Q':>7} {'LOCAL':{self._end}} {'REMOTE':{self._end}} {'PROCESS':19}"
        )
        where = "NETNS, CONTAINER" if self._several else "CONTAINER"
        fits = self._width is None or len(head) + 1 + len(where) <= self._width
        self._write(f"{head} {where}" if fits else head)

    def row(self, row: SocketRow) -> None:
        """Write one socket."""
        if self._narrow:
            self._write(*self._narrow_lines(row))
        else:
            self._write(*self._wide_lines(row))

    def _write(self, *lines: str) -> None:
        for line in lines:
            self._out.write(line.rstrip() + "\n")

    def _room(self) -> int:
        """Return how wide the name of a process can be beside two ends of the usual length."""
        return min(19, max(12, (self._width or 80) - 42 - 26))

    def _narrow_lines(self, row: SocketRow) -> Iterator[str]:
        process = self._room()
        head = (
            f"{_STATES.get(row.state, row.state):10} {_side(row):6} {row.first or '-':5}"
            f" {_age(row):>5} {_seconds(row.left):>4} {row.socket.recv_q:>6}"
        )
        ends = _ends(row, f":{row.socket.local_port}")
        yield from self._joined(f"{head} {_process(row, process):{process}}", ends, row)

    def _wide_lines(self, row: SocketRow) -> Iterator[str]:
        socket = row.socket
        head = (
            f"{row.state:11} {_side(row):6} {row.first or '-':5} {_age(row):>6}"
            f" {_seconds(row.left):>4} {socket.recv_q:>7} {_number(row.send_q):>7}"
        )
        local, remote = endpoint(socket.local_address, socket.local_port), _remote(row)
        process = _process(row, None if self._width is None else 19)
        ends = f"{local:{self._end}} {remote:{self._end}}"
        line = f"{head} {ends} {process:19} {self._where(row)}".rstrip()
        if self._width is None or len(line) <= self._width:
            yield line
            return
        yield from self._joined(f"{head} {process}", _ends(row, local), row)

    def _joined(self, head: str, ends: str, row: SocketRow) -> Iterator[str]:
        """Yield a row on one line where that fits, else its ends and its place on the next."""
        where = self._where(row)
        yield from self._fitted(head, f"{ends}  in {where}" if where else ends)

    def _fitted(self, head: str, tail: str) -> Iterator[str]:
        """Yield two parts of a line, the second on a line of its own where it does not fit."""
        if len(head) + 1 + len(tail) <= (self._width or 80):
            yield f"{head} {tail}"
        else:
            yield head
            yield f"    {tail}"

    def _where(self, row: SocketRow) -> str:
        """Return the namespace where there are several, and the container."""
        if row.container is None and not self._several:
            return ""
        container = "" if row.container is None or row.container.is_unit else row.container.label
        netns = row.netns if self._several and row.netns != container else ""
        return visible(" ".join(filter(None, (netns, container))))


class SocketJsonLines:
    """Writes one JSON object for each socket, each on a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

    def head(self) -> None:
        """Write nothing: JSON names its values itself."""

    def row(self, row: SocketRow) -> None:
        """Write one socket."""
        self._out.write(self._encode(row_json(row)) + "\n")


class CsvLines:
    """Writes CSV (RFC 4180, lines end with a newline alone) with the names of its columns."""

    def __init__(self, out: TextIO) -> None:
        import csv

        self._write = csv.writer(out, lineterminator="\n").writerow

    def head(self) -> None:
        """Write the names of the columns."""
        self._write(COLUMNS)

    def row(self, row: SocketRow) -> None:
        """Write one socket; text from outside can be no formula of a spreadsheet."""
        values = _values(row)
        owners = row.owners or ()
        values["pids"] = ";".join(str(owner.pid) for owner in owners)
        values["processes"] = ";".join(visible(owner.name) for owner in owners)
        values["users"] = ";".join(visible(owner.user) for owner in owners)
        self._write([_cell(values[name]) for name in COLUMNS])


def row_json(row: SocketRow) -> dict[str, Any]:
    """Return one socket as JSON has it."""
    values = _values(row)
    connected = row.side not in (SocketSide.LISTENER, SocketSide.BOUND)
    local = {"address": values["local_address"], "port": values["local_port"]}
    remote = {"address": values["remote_address"], "port": values["remote_port"]}
    return {
        "netns": values["netns"],
        "state": values["state"],
        "role": values["role"],
        "closed_first": values["closed_first"],
        "local": local,
        "remote": remote if connected else None,
        "age_min_s": values["age_min_s"],
        "age_max_s": values["age_max_s"],
        "left_s": values["left_s"],
        "recv_q": values["recv_q"],
        "send_q": values["send_q"],
        "retransmissions": values["retransmissions"],
        "uid": values["uid"],
        "inode": values["inode"],
        "queued": values["queued"],
        "processes": None if row.owners is None else [_owner(owner) for owner in row.owners],
        "container": None if _runs(row) is None else _container(row.container),
        "unit": values["unit"],
        "mptcp": values["mptcp"],
    }


def _values(row: SocketRow) -> dict[str, Any]:
    """Return what JSON and CSV have in common, plain and with all text inert."""
    socket = row.socket
    connected = row.side not in (SocketSide.LISTENER, SocketSide.BOUND)
    container, runs = row.container, _runs(row)
    return {
        "netns": visible(row.netns),
        "state": row.state,
        "role": row.side.value,
        "closed_first": row.first,
        "local_address": socket.local_address,
        "local_port": socket.local_port,
        "remote_address": socket.remote_address if connected else None,
        "remote_port": socket.remote_port if connected else None,
        "age_min_s": _rounded(row.age.low),
        "age_max_s": _rounded(row.age.high),
        "left_s": _rounded(row.left),
        "recv_q": socket.recv_q,
        "send_q": row.send_q,
        "retransmissions": socket.retrans,
        # The kernel has forgotten whose a mini-socket was, and says 0.
        "uid": None if socket.is_mini else socket.uid,
        "inode": socket.inode or None,
        "queued": row.is_queued,
        "container": None if runs is None else visible(runs.label),
        "unit": visible(container.id) if container is not None and container.is_unit else None,
        "mptcp": socket.mptcp,
    }


def _runs(row: SocketRow) -> Container | None:
    """Return the container of a row, None for a unit of systemd."""
    return None if row.container is None or row.container.is_unit else row.container


def _container(container: Container | None) -> dict[str, Any] | None:
    if container is None:
        return None
    name = None if container.name is None else visible(container.name)
    return {"runtime": container.runtime, "id": visible(container.id), "name": name}


def _owner(owner: Owner) -> dict[str, Any]:
    return {"pid": owner.pid, "name": visible(owner.name), "user": visible(owner.user)}


def _cell(value: Any) -> Any:
    """Return a value as a cell of CSV: nothing for what was not seen, no formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _side(row: SocketRow) -> str:
    return _SIDES.get(row.side, "-")


def _ends(row: SocketRow, local: str) -> str:
    """Return ":8080 <- 10.0.0.9:50000"; a listener has its whole address."""
    socket = row.socket
    if row.side in (SocketSide.LISTENER, SocketSide.BOUND):
        return endpoint(socket.local_address, socket.local_port)
    return f"{local} {_ARROW.get(row.side, '--')} {_remote(row)}"


def _remote(row: SocketRow) -> str:
    if row.side in (SocketSide.LISTENER, SocketSide.BOUND):
        return "-"
    return endpoint(row.socket.remote_address, row.socket.remote_port)


def _process(row: SocketRow, width: int | None) -> str:
    """Return "java/812", or "nginx/900+3" with three more; "?" for unseen ones, "-" for none."""
    if row.owners is None:
        return "?"
    if not row.owners:
        return "not accepted" if row.is_queued else "-"
    owner, others = row.owners[0], len(row.owners) - 1
    number = f"/{owner.pid}" + (f"+{others}" if others else "")
    name = visible(owner.name)
    if width is not None and len(name) + len(number) > width:
        name = name[: max(1, width - len(number) - 1)] + "~"
    return name + number


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _age(row: SocketRow) -> str:
    """Return "12s" where the age is known, ">12s" for at least, "<12s" for at most."""
    low, high = row.age
    if low is None:
        return "-" if high is None else f"<{_seconds(high)}"
    return _seconds(low) if high is not None and high - low < 1 else f">{_seconds(low)}"


def _seconds(seconds: float | None) -> str:
    """Return seconds in at most four characters: "59s", "12m", "31h", "999d"."""
    if seconds is None:
        return "-"
    if seconds < 99.5:
        return f"{seconds:.0f}s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f}m"
    if seconds < 99.5 * 3600:
        return f"{seconds / 3600:.0f}h"
    return f"{seconds / 86_400:.0f}d"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
