"""`twdiag sockets`: the rows behind a finding, one line for each socket."""

from __future__ import annotations

import enum
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from twdiag.cli.options import (  # noqa: TC001  (typer reads the annotations)
    AllNetnsOption,
    ConfigOption,
    LimitOption,
    NetnsesOption,
    PortOption,
    ProcessOption,
)

if TYPE_CHECKING:
    from twdiag.engine.sockets import Listing
    from twdiag.render.sockets import CsvLines, SocketJsonLines, SocketTextLines

EPILOG: Final = """\b
Examples:
  twdiag sockets --rule close-wait-leak  the rows behind a finding
  twdiag sockets --state CLOSE_WAIT --process java
  twdiag sockets --peer 10.0.0.5:5432 --sort age --top 20
  twdiag sockets --port 8080 --json | jq -c 'select(.role == "server")'

\b
Options of different names all have to fit, of the same name one has to.
Exit status: 0 if it could look (whatever it found), 3 if it could not.
"""


class SocketSource(str, enum.Enum):
    """The readers that give sockets one by one."""

    AUTO = "auto"
    NETLINK = "netlink"
    PROC = "proc"


class Sort(str, enum.Enum):
    """What sockets can be sorted by."""

    AGE = "age"
    LEFT = "left"
    RECV_Q = "recv-q"
    SEND_Q = "send-q"
    STATE = "state"
    PORT = "port"
    PEER = "peer"
    PROCESS = "process"


def sockets(
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state", metavar="STATE", help="Show only sockets in this state (repeatable)."
        ),
    ] = None,
    port: PortOption = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="PEER",
            help="Show only this remote address, network, port or address:port (repeatable).",
        ),
    ] = None,
    process: ProcessOption = None,
    rule: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="RULE", help="Show only what this rule finds (repeatable)."),
    ] = None,
    netns: NetnsesOption = None,
    all_netns: AllNetnsOption = False,
    sort: Annotated[
        Sort | None,
        typer.Option(
            "--sort", help="Sort by this; the oldest, largest or soonest gone come first."
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            max=100_000,
            metavar="N",
            help="Show only the first N, sorted by age unless --sort says otherwise.",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Write JSON, one object for each line.")
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Write CSV with a line of column names.")
    ] = False,
    limit: LimitOption = None,
    config: ConfigOption = None,
    source: Annotated[
        SocketSource,
        typer.Option("--source", help="Read sockets from this source; auto is netlink, else proc."),
    ] = SocketSource.AUTO,
) -> None:
    """List sockets with role, age, queues, owner and who closed first.

    It writes each row as it is read. Without filters it lists every TCP socket.
    """
    from twdiag.cli import terminal
    from twdiag.engine.sockets import Listing, SocketsRequest
    from twdiag.errors import refuse_both

    terminal.make_output_safe()
    refuse_both({"--json": json, "--csv": csv})
    listing = Listing(
        SocketsRequest(
            states=tuple(state or ()),
            ports=tuple(port or ()),
            peers=tuple(peer or ()),
            processes=tuple(process or ()),
            rules=tuple(rule or ()),
            netns=tuple(netns or ()),
            all_netns=all_netns,
            sort=None if sort is None else sort.value,
            top=top,
            source=source.value,
            limits=tuple(limit or ()),
            config=config,
        )
    )
    _write(listing, _lines(listing.several, json, csv))


def _lines(several: bool, json: bool, csv: bool) -> SocketTextLines | SocketJsonLines | CsvLines:
    from twdiag.cli import terminal
    from twdiag.render.sockets import CsvLines, SocketJsonLines, SocketTextLines

    if json:
        return SocketJsonLines(sys.stdout)
    if csv:
        return CsvLines(sys.stdout)
    return SocketTextLines(sys.stdout, terminal.width_of(sys.stdout), several=several)


def _write(listing: Listing, lines: SocketTextLines | SocketJsonLines | CsvLines) -> None:
    """Write the rows, and say on stderr what was not seen."""
    from twdiag.cli import streams, terminal
    from twdiag.wording import visible

    rows = listing.rows()
    # The first row comes before the head: a request that is refused writes nothing.
    with terminal.patience("reading the socket table"):
        first = next(rows, None)
    lines.head()
    if first is not None:
        lines.row(first)
    for row in rows:
        lines.row(row)
    sys.stdout.flush()
    for note in listing.notes:
        streams.say(f"twdiag: {visible(note)}")
    for gap in listing.gaps:
        streams.say(f"twdiag: {visible(f'{gap.why} ({gap.how})' if gap.how else gap.why)}")
    if listing.why_empty and sys.stderr.isatty():
        streams.say(f"twdiag: {visible(listing.why_empty)}")
