"""Write what `twdiag port` found: the verdict, who is in the way, and what bind() would say."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from twdiag import __version__
from twdiag.engine.binding import IPV6_ANY, Option, PortHolder, PortRole, Verdict
from twdiag.model.snapshot import HOST_NETNS
from twdiag.render.json import write_json
from twdiag.render.pieces import fitted
from twdiag.wording import command_of, count, duration, endpoint, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from twdiag.analysis.successors import Replaced
    from twdiag.engine.accepting import NotAccepting
    from twdiag.engine.binding import Attempt
    from twdiag.engine.port import PortReport
    from twdiag.model.nat import Diversion

SCHEMA: Final = "twdiag-port/1"
_WORDS: Final = {
    Verdict.FREE: "ok",
    Verdict.IF_OLD_HAD_IT: "if the old had it",
    Verdict.BLOCKED: "EADDRINUSE",
}
_WIDTH: Final = 80
_WIDE: Final = (26, 14, 20, 0)
_NARROW: Final = (17, 11, 14, 0)
"""The columns of the table; an address of IPv6 may be wider."""
_SHORT: Final = {"if the old had it": "if old had it"}
_MOST_HOLDERS: Final = 8
_MOST_OWNERS: Final = 3


def render_text(report: PortReport, out: TextIO, width: int | None = None) -> None:
    """Write the report for people, in so many columns; what came from outside is inert."""
    for line in _lines(report, min(width or _WIDTH, _WIDTH)):
        for part in fitted(line, width):
            out.write(part.rstrip() + "\n")


def _lines(report: PortReport, room: int) -> Iterator[str]:
    yield headline(report)
    where = "" if report.netns == HOST_NETNS else f"in {visible(report.netns)}"
    if where:
        yield where
    yield ""
    for holder in report.holders[:_MOST_HOLDERS]:
        what = f"{holder.count} {'bound' if holder.kind is PortRole.BOUND else holder.state.name}"
        yield f" {what:17} {_address(holder.address, holder.v6only):17} {_until(holder)}"
    if len(report.holders) > _MOST_HOLDERS:
        yield f" {count(len(report.holders) - _MOST_HOLDERS, 'more group')}: --json has all"
    if report.holders:
        yield ""
    yield from _table(report, _NARROW if room < _WIDTH else _WIDE)
    yield ""
    yield from _facts(report, room)
    for gap in report.gaps:
        yield f" Not seen          {visible(gap.why)}"


def headline(report: PortReport) -> str:
    """Return the verdict in one sentence."""
    port = f"Port {report.port}"
    listeners = [holder for holder in report.holders if holder.kind is PortRole.LISTENER]
    if listeners:
        return f"{port} is taken: {_names(listeners)} on {_places(listeners)}{_diverted(report)}"
    bound = [holder for holder in report.holders if holder.kind is PortRole.BOUND]
    if bound:
        return f"{port} is taken: {_names(bound, 'has bound it')} on {_places(bound)}"
    if report.verdict is Verdict.FREE:
        if report.gaps and any(gap.what == "bound" for gap in report.gaps):
            return f"{port} is free, as far as this kernel shows{_diverted(report)}"
        return f"{port} is free{_diverted(report)}"
    sockets = count(sum(holder.count for holder in report.holders), "socket")
    left = report.free_in
    one = sum(holder.count for holder in report.holders) == 1
    until = f"until {'it is' if one else 'they are'} closed"
    until = f"for up to {duration(left)} more" if left else until
    return f"{port} is blocked by {sockets} without a listener, {until}"


def _diverted(report: PortReport) -> str:
    """Return what a listener on the port would wonder about, "" where nothing is diverted."""
    arriving = [one for one in report.nat.found if not one.local] if report.nat else []
    if not arriving:
        return ""
    return f", but NAT sends connections to it to {_elsewhere(arriving[0], report.port)}"


def _names(holders: list[PortHolder], verb: str = "listens") -> str:
    owners = sorted({owner for holder in holders for owner in holder.owners})
    if not owners:
        uids = sorted({uid for holder in holders for uid in holder.uids})
        return f"a process of uid {', '.join(map(str, uids))} {verb}"
    named = [f"{visible(owner.name)} (pid {owner.pid})" for owner in owners[:_MOST_OWNERS]]
    more = f" and {len(owners) - _MOST_OWNERS} more" if len(owners) > _MOST_OWNERS else ""
    plural = verb if len(owners) == 1 else verb.replace("has", "have").replace("listens", "listen")
    return f"{', '.join(named)}{more} {plural}"


def _places(holders: list[PortHolder]) -> str:
    return ", ".join(sorted({_address(holder.address, holder.v6only) for holder in holders}))


def _address(address: str, v6only: bool) -> str:
    if address == IPV6_ANY:
        return "[::] (IPv6 only)" if v6only else "[::] (IPv4 too)"
    return f"[{address}]" if ":" in address else address


def _until(holder: PortHolder) -> str:
    """Return who or what ends the sockets of a group."""
    if holder.last_gone is not None:
        first, last = duration(holder.first_gone or 0), duration(holder.last_gone)
        return f"gone within {last}" if first == last else f"gone within {first} to {last}"
    owner = holder.owners[0] if holder.owners else None
    name = "owner not seen" if owner is None else f"{visible(owner.name)} (pid {owner.pid})"
    more = f" and {len(holder.owners) - 1} more" if len(holder.owners) > 1 else ""
    peer = f", to {holder.remotes[0]}" if holder.kind in (PortRole.CLIENT, PortRole.UNKNOWN) else ""
    return f"{name}{more}{peer}"


def _table(report: PortReport, columns: tuple[int, ...]) -> Iterator[str]:
    """Yield what bind() would say, one line for addresses that have the same answers."""
    yield _row(columns, "bind()", ("plain", "SO_REUSEADDR", "SO_REUSEPORT"))
    groups: dict[tuple[Verdict, ...], list[Attempt]] = {}
    for attempt in report.attempts:
        groups.setdefault(tuple(attempt.verdicts[option] for option in Option), []).append(attempt)
    if len(groups) == 1:
        ((verdicts, _),) = groups.items()
        yield _row(columns, "every address", map(_WORDS.__getitem__, verdicts))
        return
    for attempt in report.attempts:
        verdicts = tuple(attempt.verdicts[option] for option in Option)
        address = _address(attempt.address, attempt.v6only)
        yield _row(columns, address, map(_WORDS.__getitem__, verdicts))


def _row(columns: tuple[int, ...], address: str, words: Iterable[str]) -> str:
    if columns is _NARROW:
        words = (_SHORT.get(word, word) for word in words)
    cells = zip((address, *words), columns, strict=True)
    return " " + "".join(f"{cell:{width}}" for cell, width in cells)


def _facts(report: PortReport, room: int) -> Iterator[str]:
    if report.unserved:
        yield from _unserved(report.unserved, room)
    if report.replaced:
        yield from _labelled("Old process", _old(report.replaced), room)
    if report.holders:
        yield from _labelled("To free it", _free(report), room)
    if any(Verdict.IF_OLD_HAD_IT in attempt.verdicts.values() for attempt in report.attempts):
        word = _WORDS[Verdict.IF_OLD_HAD_IT]
        label = f"{_SHORT[word]}:   " if room < _WIDTH else f"{word}:"
        yield f" {label} most servers set SO_REUSEADDR, outgoing connections do not;"
        yield f"{'':20}SO_REUSEPORT also needs the same user, except for TIME_WAIT"
    if report.ephemeral is not None:
        low, high = report.ephemeral
        inside = low <= report.port <= high
        if not inside:
            text = "outside: no outgoing connection takes it"
        elif report.reserved:
            text = "inside, but reserved: no outgoing connection takes it"
        else:
            text = "inside: connect() can take it when it is free"
        yield f" Ephemeral range   {low}-{high}, {text}"
        if report.taken_by_connect:
            yield f" To reserve it     {_reserve(report)}"
    start = report.unprivileged_start
    if start is not None and report.port < start:
        yield f" Privileged        below {start}: bind() needs CAP_NET_BIND_SERVICE, else EACCES"
    yield from _nat(report, room)
    yield f" To look           {_look(report)}"


def _unserved(unserved: NotAccepting, room: int) -> Iterator[str]:
    """Yield what those do who listen and do not wait for connections, as far as it was seen."""
    one, *others = unserved.owners
    who = f"{visible(one.name)} (pid {one.pid})" + (f" and {len(others)} more" if others else "")
    text = f"at this moment no thread of {who} waits for a connection: {visible(unserved.doing)}"
    yield from _labelled("Nobody accepts", text, room)
    if unserved.starter:
        parent = f"{visible(unserved.starter.name)} (pid {unserved.starter.pid})"
        text = f"if it is only a helper of {parent}, it has inherited the socket from there"
        yield from _labelled("", text, room)


def _old(replaced: tuple[Replaced, ...]) -> str:
    """Return who keeps connections from before a reload, and who listens now."""
    one = replaced[0]
    many = len(replaced) > 1
    who = f"{visible(one.name)} (pid {one.pid})" + (
        f" and {len(replaced) - 1} more" if many else ""
    )
    heir = f"{visible(one.heir_name)} (pid {one.heir})"
    keep = "keep their" if many else "keeps its"
    return f"{who} {keep} connections, {heir} gets the new ones (twdiag explain reload)"


def _labelled(label: str, text: str, room: int) -> list[str]:
    """Return a sentence behind a label, on as many lines of so many columns as it takes."""
    return textwrap.wrap(
        text,
        max(40, room),
        initial_indent=f" {label:18}",
        subsequent_indent=" " * 19,
        break_on_hyphens=False,
    )


def _free(report: PortReport) -> str:
    """Return what makes the port free: who has to end, or how long to wait."""
    owners = sorted({owner for holder in report.holders for owner in holder.owners})
    if report.free_in is not None:
        return f"wait up to {duration(report.free_in)}, or set SO_REUSEADDR if the old had it"
    if not owners:
        return f"stop whoever holds it; {_who_sees(report)}"
    more = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
    them = "them" if more else "it"
    first = f"{visible(owners[0].name)} (pid {owners[0].pid})"
    return f"stop {first}{more}, or have {them} close the socket"


def _who_sees(report: PortReport) -> str:
    """Return how to see who holds a port where that was not seen."""
    how = next((gap.how for gap in report.gaps if gap.what == "owners"), "")
    as_root = not how or how.startswith("run as root")
    return "root sees who that is" if as_root else f"to see who: {visible(how)}"


def _nat(report: PortReport, room: int) -> Iterator[str]:
    """Yield where NAT leads connections to the port, whoever listens on it."""
    command = f"{_way_in(report)}nft list ruleset | grep -w {report.port}"
    nat = report.nat
    if nat is None and report.nat_how:
        yield from _labelled("NAT", f"not looked at: {visible(report.nat_how)}", room)
        return
    if nat is None:
        yield f" NAT               not looked at (needs root): {command}"
        return
    for one in nat.found[:_MOST_HOLDERS]:
        whose = "connections of this host" if one.local else "arriving connections"
        by = "a rule" if one.by_rule else "no rule found"
        tracked = f", {one.connections:,} now" if one.connections else ""
        yield f" NAT               {whose} go to {_elsewhere(one, report.port)} ({by}{tracked})"
    if nat.unsure:
        rules = count(nat.unsure, "rule")
        yield f" NAT               {rules} not understood, perhaps for this port: {command}"
    elif not nat.found:
        yield " NAT               no rule and no tracked connection leads it elsewhere"


def _way_in(report: PortReport) -> str:
    """Return what stands before a command that is to look into the namespace."""
    return f"{visible(report.way_in)} " if report.way_in else ""


def _elsewhere(one: Diversion, port: int) -> str:
    """Return where NAT leads a connection to."""
    if one.address is None:
        return f"port {one.port or port} here"
    return endpoint(one.address, one.port or port)


def _look(report: PortReport) -> str:
    """Return the command that shows the sockets; ss sees one namespace, its own."""
    if report.way_in or report.netns == HOST_NETNS:
        return f"{_way_in(report)}ss -Htanp 'sport = :{report.port}'"
    words = ("twdiag", "sockets", "--port", str(report.port), "--netns", report.netns)
    return command_of(words)


def _reserve(report: PortReport) -> str:
    """Return the command that reserves the port; what is reserved already stays in it."""
    elsewhere = not report.way_in and report.netns != HOST_NETNS
    if report.reservation is None or elsewhere:
        return f"add {report.port} to net.ipv4.ip_local_reserved_ports"
    setting = f"net.ipv4.ip_local_reserved_ports={report.reservation}"
    return f"{_way_in(report)}sysctl -w {setting}"


def render_json(report: PortReport, out: TextIO) -> None:
    """Write the report as JSON, schema twdiag-port/1."""
    write_json(to_json(report), out)


def to_json(report: PortReport) -> dict[str, Any]:
    """Return the report as plain values."""
    unserved = report.unserved
    return {
        "schema": SCHEMA,
        "version": __version__,
        "port": report.port,
        "netns": report.netns,
        "verdict": report.verdict.value,
        "summary": headline(report),
        "free_in_seconds": report.free_in,
        "holders": [_holder(holder) for holder in report.holders],
        "bind": [
            {
                "address": attempt.address,
                "v6only": attempt.v6only,
                **{option.value: attempt.verdicts[option].value for option in Option},
            }
            for attempt in report.attempts
        ],
        "ephemeral_range": None if report.ephemeral is None else list(report.ephemeral),
        "reserved": report.reserved,
        "taken_by_connect": report.taken_by_connect,
        "unprivileged_port_start": report.unprivileged_start,
        "nat": None if report.nat is None else [one._asdict() for one in report.nat.found],
        "nat_rules_not_understood": None if report.nat is None else report.nat.unsure,
        "unserved": [{"pid": one.pid, "name": one.name} for one in unserved.owners]
        if unserved
        else [],
        "unserved_instead": unserved.doing if unserved else None,
        "old_processes": [{"pid": one.pid, "name": one.name} for one in report.replaced],
        "gaps": [{"what": gap.what, "why": gap.why, "how": gap.how} for gap in report.gaps],
    }


def _holder(holder: PortHolder) -> dict[str, Any]:
    return {
        "kind": holder.kind.value,
        "state": "BOUND" if holder.kind is PortRole.BOUND else holder.state.name,
        "address": holder.address,
        "v6only": holder.v6only,
        "sockets": holder.count,
        "first_gone_seconds": holder.first_gone,
        "last_gone_seconds": holder.last_gone,
        "remotes": list(holder.remotes),
        "uids": list(holder.uids),
        "processes": [
            {"pid": owner.pid, "name": owner.name, "user": owner.user} for owner in holder.owners
        ],
    }
