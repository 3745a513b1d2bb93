"""Who is at the other end is told where it can be nobody else, and then who has to act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.made import limits_of, listening, time_wait, view_of
from twdiag.analysis.neighbours import MOST_SOCKETS, Neighbour, Neighbourhood
from twdiag.model.findings import Finding, OtherEnd
from twdiag.model.snapshot import Owner
from twdiag.model.sockets import Socket, TcpInfo
from twdiag.rules import RULES, runner
from twdiag.tcp import State

if TYPE_CHECKING:
    from twdiag.analysis.view import View

OLD = TcpInfo(0, 60_000, 60_000)
SHOP, WEB = "10.0.0.1", "10.0.0.2"
CURL, JAVA = Owner(77, "curl", "app"), Owner(915, "java", "app")


def half_closed(
    n: int, *, client: str = SHOP, server: str = WEB
) -> tuple[list[Socket], list[Socket]]:
    """Return n connections that a client has half-closed: (the client's ends, the server's)."""
    ours = [
        Socket(
            State.FIN_WAIT2, client, 40000 + i, server, 8080, inode=100 + i, cookie=1 + i, info=OLD
        )
        for i in range(n)
    ]
    theirs = [
        Socket(
            State.CLOSE_WAIT,
            server,
            8080,
            client,
            40000 + i,
            inode=500 + i,
            cookie=900 + i,
            info=OLD,
        )
        for i in range(n)
    ]
    return ours, theirs


def owned(sockets: list[Socket], owner: Owner) -> dict[int, tuple[Owner, ...]]:
    return {socket.inode: (owner,) for socket in sockets}


def findings_of(view: View, *rules: str) -> list[Finding]:
    chosen = [rule for rule in RULES if rule.name in rules]
    return list(runner.tell(runner.select(view, limits_of(), chosen), view).findings)


def ends_of(
    neighbours: list[Neighbour], place: int, rule: str, owners: dict[int, tuple[Owner, ...]]
) -> tuple[OtherEnd, ...]:
    """Return the other ends of the only finding of a rule in a neighbour's view."""
    view = neighbours[place].view
    assert view is not None
    (finding,) = findings_of(view, rule)
    neighbourhood = Neighbourhood(neighbours)
    wanted = neighbourhood.inodes(place, finding)
    return neighbourhood.told(
        place, finding, {i: held for i, held in owners.items() if i in wanted}
    ).other_ends


def neighbour(label: str, address: str, *sockets: Socket, **changes: Any) -> Neighbour:
    return Neighbour(label, frozenset({address, "127.0.0.1"}), view_of(*sockets, **changes))


def two(n: int = 6) -> tuple[list[Neighbour], dict[int, tuple[Owner, ...]]]:
    ours, theirs = half_closed(n)
    owners = owned(ours, CURL) | owned(theirs, JAVA)
    return [
        neighbour("shop", SHOP, *ours, owners=owned(ours, CURL)),
        neighbour("web", WEB, listening(8080), *theirs, owners=owned(theirs, JAVA)),
    ], owners


def test_the_holder_of_the_close_waits_has_to_act() -> None:
    neighbours, owners = two()
    (end,) = ends_of(neighbours, 0, "peer-never-closes", owners)
    assert end == OtherEnd(
        "java (pid 915) in web holds 6 of them in CLOSE_WAIT: it has to close",
        "web",
        JAVA,
        6,
        must_act=True,
    )


def test_who_waits_for_a_leak_is_named_and_need_not_act() -> None:
    neighbours, owners = two()
    (end,) = ends_of(neighbours, 1, "close-wait-leak", owners)
    assert (end.netns, end.process, end.sockets, end.must_act) == ("shop", CURL, 6, False)
    assert end.text == (
        "curl (pid 77) in shop closed 6 of them first, and waits in FIN_WAIT2 for this end"
    )


def test_an_owner_that_was_not_seen_is_a_process() -> None:
    neighbours, _ = two()
    (end,) = ends_of(neighbours, 0, "peer-never-closes", {})
    assert end.process is None
    assert end.text.startswith("a process in web holds 6 ")


def test_connections_that_nobody_accepted_are_told_as_such() -> None:
    ours, theirs = half_closed(6)
    waiting = [socket._replace(inode=0) for socket in theirs]
    neighbours = [
        neighbour("shop", SHOP, *ours, owners=owned(ours, CURL)),
        neighbour("web", WEB, listening(8080), *waiting),
    ]
    (end,) = ends_of(neighbours, 0, "peer-never-closes", {})
    assert "has not accepted 6 of them" in end.text


def test_two_candidates_are_none() -> None:
    neighbours, owners = two()
    copy = replace_label(neighbours[1], "web-2")
    assert ends_of([*neighbours, copy], 0, "peer-never-closes", owners) == ()


def replace_label(neighbour: Neighbour, label: str) -> Neighbour:
    return neighbour._replace(label=label)


def test_loopback_never_leads_elsewhere() -> None:
    ours, theirs = half_closed(6, client="127.0.0.1", server="127.0.0.1")
    apart = [
        neighbour("shop", SHOP, *ours, owners=owned(ours, CURL)),
        neighbour("web", WEB, listening(8080), *theirs, owners=owned(theirs, JAVA)),
    ]
    assert ends_of(apart, 0, "peer-never-closes", owned(theirs, JAVA)) == ()
    together = [neighbour("both", SHOP, listening(8080), *ours, *theirs, owners=owned(ours, CURL))]
    (end,) = ends_of(together, 0, "peer-never-closes", owned(ours, CURL) | owned(theirs, JAVA))
    assert end.text.startswith("java (pid 915) holds 6 ")


DB = "10.0.0.5"


def clients() -> Neighbour:
    return neighbour("shop", SHOP, *time_wait(26_000))


def database(address: str = DB, label: str = "db") -> Neighbour:
    return neighbour(label, address, listening(5432, address, inode=700))


def test_a_destination_is_who_listens_at_its_address() -> None:
    owners = {700: (Owner(4711, "postgres", "pg"),)}
    (end,) = ends_of([clients(), database()], 0, "ports-running-out", owners)
    assert end.text == "10.0.0.5:5432 is postgres (pid 4711) in db"
    assert (end.netns, end.sockets, end.must_act) == ("db", 0, False)


def test_an_address_that_two_namespaces_have_tells_nothing() -> None:
    owners = {700: (Owner(4711, "postgres", "pg"),)}
    places = [clients(), database(), database(label="db-2")]
    assert ends_of(places, 0, "ports-running-out", owners) == ()
    unseen = Neighbour("not looked at", frozenset({DB}))
    assert ends_of([clients(), database(), unseen], 0, "ports-running-out", owners) == ()


def test_a_namespace_that_nobody_looked_at_is_named_as_such() -> None:
    unseen = Neighbour("db", frozenset({DB}))
    (end,) = ends_of([clients(), unseen], 0, "ports-running-out", {})
    assert end.text == "10.0.0.5:5432 is db, which was not looked at"


def test_a_destination_that_is_not_on_this_host_has_no_other_end() -> None:
    assert ends_of([clients(), database("10.0.0.6")], 0, "ports-running-out", {}) == ()


def test_the_busiest_client_of_a_server_is_named() -> None:
    served = [Socket(State.TIME_WAIT, WEB, 8080, SHOP, 40000 + i, 3, 30_000) for i in range(40)]
    live = Socket(State.ESTABLISHED, SHOP, 50000, WEB, 8080, inode=321)
    places = [neighbour("web", WEB, listening(8080), *served), neighbour("shop", SHOP, live)]
    (end,) = ends_of(places, 0, "server-closes-first", {321: (CURL,)})
    assert end.text == (
        "the busiest client, 10.0.0.1, is shop; curl (pid 77) has live connections there"
    )
    host = replace_label(places[1], "host")
    (end,) = ends_of([places[0], host], 0, "server-closes-first", {})
    assert end.text == "the busiest client, 10.0.0.1, is the host"


def test_advice_names_the_process_and_keeps_how_to_see_that_it_worked() -> None:
    neighbours, owners = two()
    view = neighbours[0].view
    assert view is not None
    (finding,) = findings_of(view, "peer-never-closes")
    told = Neighbourhood(neighbours).told(0, finding, owners)
    assert told.advice[0].do == "Let java (pid 915) close its end"
    assert told.advice[0].verify == finding.advice[0].verify
    assert told.advice[1:] == finding.advice[1:]
    assert told._replace(advice=finding.advice, other_ends=()) == finding


def test_too_many_half_closed_sockets_are_counted_and_not_joined() -> None:
    ours, theirs = half_closed(6)
    many = [ours[0]._replace(local_port=1 + n, cookie=10_000 + n) for n in range(MOST_SOCKETS)]
    places = [
        neighbour("shop", SHOP, *ours, *many, owners=owned(ours, CURL)),
        neighbour("web", WEB, listening(8080), *theirs, owners=owned(theirs, JAVA)),
    ]
    assert Neighbourhood(places).half_closed == MOST_SOCKETS + 12
    (end,) = ends_of(places, 0, "peer-never-closes", owned(theirs, JAVA))
    assert (end.sockets, end.must_act) == (0, False)


def test_a_process_that_waits_for_itself_is_not_sent_to_itself() -> None:
    """Both ends of six connections in one program, which closes neither."""
    ours, theirs = half_closed(6, client="127.0.0.1", server="127.0.0.1")
    owners = owned([*ours, *theirs], JAVA)
    place = neighbour("web", WEB, listening(8080), *ours, *theirs, owners=owners)
    (end,) = ends_of([place], 0, "close-wait-leak", owners)
    assert end.text.startswith("java (pid 915) closed 6 of them first")
    assert not end.must_act


def test_orphans_of_a_server_are_told_by_its_own_address() -> None:
    """Clients that leak: the server closed first and forgot them, which is only counted."""
    leaked = [
        Socket(
            State.CLOSE_WAIT, SHOP, 40000 + i, WEB, 8080, inode=500 + i, cookie=900 + i, info=OLD
        )
        for i in range(25)
    ]
    orphaned = [Socket(State.FIN_WAIT2, WEB, 8080, SHOP, 40000 + i, 3, 30_000) for i in range(25)]
    shop = neighbour("shop", SHOP, *leaked, owners=owned(leaked, CURL))
    web = neighbour("web", WEB, listening(8080), *orphaned)
    (end,) = ends_of([web, shop], 0, "peer-never-closes", owned(leaked, CURL))
    assert (
        end.text
        == "curl (pid 77) in shop holds 25 connections from here in CLOSE_WAIT: it has to close"
    )
    elsewhere = neighbour("web", WEB, listening(8080, "10.0.0.3"), listening(8080, WEB), *orphaned)
    (end,) = ends_of([elsewhere, shop], 0, "peer-never-closes", owned(leaked, CURL))
    assert end.sockets == 25


def test_an_end_on_this_host_whose_process_is_unseen_is_not_sought_on_another_host() -> None:
    neighbours, _ = two()
    view = neighbours[0].view
    assert view is not None
    (finding,) = findings_of(view, "peer-never-closes")
    told = Neighbourhood(neighbours).told(0, finding, {})
    assert told.advice[0].do == "Look at the other end, which is on this host"
    assert told.advice[0].how.endswith("twdiag --all-netns --port 8080")
    assert told.advice[0].verify == finding.advice[0].verify
