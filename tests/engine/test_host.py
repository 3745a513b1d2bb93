"""The whole host is looked at: each finding stands in the right namespace, without cross-talk."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import twdiag
from tests.engine.village import AT_ONCE, Village, alone, finding, told
from tests.sources.live.confinement import become_nobody, in_child
from twdiag import sources
from twdiag.engine import host
from twdiag.lab.actors import (
    Program,
    Sockets,
    accept,
    await_end,
    close,
    close_first,
    connect,
    drain,
    listen,
    meet,
    shut,
)
from twdiag.model.findings import Report, Severity
from twdiag.render.pieces import where
from twdiag.sources.live.namespaces.entering import inside
from twdiag.sources.live.namespaces.search import Found, find_namespaces
from twdiag.tcp import State


def leak(server: Program, client: Program, address: str, count: int = 6) -> None:
    """Let a server keep connections that its client has closed."""
    server.do(listen, address)
    meet(client, server, count, address)
    client.do(shut)
    server.do(drain)


def look(*, ask_for_all: bool = False, seconds: float = 30) -> Report:
    return host.look_at_all(AT_ONCE, seconds, ask_for_all=ask_for_all)


def look_as_nobody(seconds: float = 30) -> Report | None:
    """Return what a user without rights sees; None where there is no other user."""

    def unprivileged() -> Report | None:
        return look(seconds=seconds) if become_nobody() else None

    # Nobody may not be allowed to read this interpreter's modules: root has them loaded first.
    importlib.import_module("encodings.ascii")
    look()
    return in_child(unprivileged)


def test_the_same_port_in_two_namespaces_is_two_servers() -> None:
    def work(village: Village) -> tuple[Report, int, int]:
        blue, red = village.house(), village.house()
        for name, house, count in (("blue", blue, 21), ("red", red, 30)):
            server = village.move_in(f"{name}-srv", house)
            client = village.move_in(f"{name}-cli", house)
            village.closed_first(house, server, client, count)
        return look(), village.pid("blue-srv"), village.pid("red-srv")

    report, blue, red = alone(work)
    in_blue, in_red = f"blue-srv (pid {blue})", f"red-srv (pid {red})"
    assert told(report) == [
        ("server-closes-first", in_blue),
        ("server-closes-first", in_red),
    ]
    for netns, count, pid in ((in_blue, 21, blue), (in_red, 30, red)):
        found = finding(report, "server-closes-first", netns)
        assert found.evidence["time_wait"] == count
        assert found.pids == (pid,)
    assert {n.label for n in report.namespaces} == {"host", in_blue, in_red}
    assert report.gaps == ()


def test_loopback_connections_with_equal_ends_are_not_mixed() -> None:
    """Two namespaces, each with 127.0.0.1:40000 to 127.0.0.1:8080; one server leaks."""

    def work(village: Village) -> Report:
        for name in ("good", "bad"):
            house = village.house()
            server, client = village.move_in(name, house), village.move_in(f"{name}-cli", house)
            server.do(listen)
            for port in range(40000, 40006):
                client.do(connect, 1, source=("127.0.0.1", port))
                server.do(accept, 1)
            if name == "bad":
                client.do(shut)
                server.do(drain)
                village.await_in(house, {State.FIN_WAIT2: 6, State.CLOSE_WAIT: 6})
        return look()

    report = alone(work)
    by_rule = {f.rule: f for f in report.findings}
    assert set(by_rule) == {"close-wait-leak", "peer-never-closes"}
    assert all(f.netns.startswith("bad ") for f in report.findings)
    (end,) = by_rule["peer-never-closes"].other_ends
    assert end.must_act
    assert end.process is not None
    assert end.process.name == "bad"
    assert end.sockets == 6
    (waits,) = by_rule["close-wait-leak"].other_ends
    assert not waits.must_act
    assert waits.process is not None
    assert waits.process.name == "bad-cli"


def test_the_end_that_must_act_is_named_across_a_cable() -> None:
    def work(village: Village) -> tuple[Report, int, int]:
        web, shop = village.house(), village.house()
        village.cable(web, "10.99.0.1", shop, "10.99.0.2")
        server, client = village.move_in("leaky", web), village.move_in("shopper", shop)
        leak(server, client, "10.99.0.1")
        village.await_in(shop, {State.FIN_WAIT2: 6})
        return look(), village.pid("leaky"), village.pid("shopper")

    report, leaky, shopper = alone(work)
    here, there = f"shopper (pid {shopper})", f"leaky (pid {leaky})"
    assert told(report) == [("close-wait-leak", there), ("peer-never-closes", here)]
    found = finding(report, "peer-never-closes", here)
    (end,) = found.other_ends
    assert (end.netns, end.sockets, end.must_act) == (there, 6, True)
    assert end.process is not None
    assert end.process.pid == leaky
    assert f"leaky (pid {leaky})" in end.text
    assert "has to close" in end.text
    assert found.advice[0].do == f"Let leaky (pid {leaky}) close its end"
    assert found.advice[0].how.endswith(f"twdiag --all-netns --process {leaky}")
    (waits,) = finding(report, "close-wait-leak", there).other_ends
    assert (waits.netns, waits.sockets, waits.must_act) == (here, 6, False)


def test_who_never_closes_is_named_where_the_client_has_only_orphans() -> None:
    """After close() the client's end is a mini-socket that is counted and never kept."""

    def work(village: Village) -> tuple[Report, str, str]:
        web, shop = village.house(), village.house()
        village.cable(web, "10.99.0.1", shop, "10.99.0.2")
        server, client = village.move_in("leaky", web), village.move_in("shopper", shop)
        server.do(listen, "10.99.0.1")
        meet(client, server, 25, "10.99.0.1")
        client.do(close)
        server.do(drain)
        village.await_in(web, {State.CLOSE_WAIT: 25})
        time.sleep(1.1)  # an orphan's age is told in whole seconds
        return (
            look(),
            f"leaky (pid {village.pid('leaky')})",
            f"shopper (pid {village.pid('shopper')})",
        )

    report, leaky, shopper = alone(work)
    found = finding(report, "peer-never-closes", shopper)
    assert found.evidence["orphans"] == 25
    (end,) = found.other_ends
    assert end.text == f"{leaky} holds 25 connections from here in CLOSE_WAIT: it has to close"
    assert (end.netns, end.sockets, end.must_act) == (leaky, 25, True)


def shut_newest(sockets: Sockets, count: int) -> None:
    """Half-close the newest connections, as a proxy passes on the end of the others."""
    for connection in sockets.connected[-count:]:
        connection.shutdown(socket.SHUT_WR)


def test_a_proxy_is_not_blamed_alone_for_what_it_waits_for() -> None:
    """As docker-proxy does: client and proxy on the host, the proxy's other side in a container."""

    def work(village: Village) -> tuple[Report, int]:
        web = village.house()
        village.cable(None, "10.99.0.1", web, "10.99.0.2")
        server = village.move_in("leaky", web)
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        proxy, client = village.move_in("docker-proxy", here), village.move_in("browser", here)
        server.do(listen, "10.99.0.2")
        proxy.do(listen)
        meet(client, proxy, 6)
        proxy.do(connect, 6, "10.99.0.2")
        server.do(accept, 6)
        client.do(shut)
        proxy.do(await_end, 6)  # its six connections to the client are its oldest ones
        proxy.do(shut_newest, 6)
        server.do(drain)
        village.wait_for({State.FIN_WAIT2: 12, State.CLOSE_WAIT: 6})
        return look(), village.pid("leaky")

    report, leaky = alone(work)
    web = f"leaky (pid {leaky})"
    assert told(report) == [
        ("close-wait-leak", "host"),
        ("close-wait-leak", web),
        ("peer-never-closes", "host"),
        ("peer-never-closes", "host"),
    ]
    # Who has to act is named first.
    assert [f.netns for f in report.findings[:2]] == [web, "host"]
    proxy = finding(report, "close-wait-leak", "host")
    assert proxy.subject.name == "docker-proxy"  # type: ignore[union-attr]
    assert proxy.other_ends[0].must_act
    assert proxy.other_ends[0].text == (
        f"{web} holds 6 connections from docker-proxy in CLOSE_WAIT: look there first"
    )
    towards = {f.subject.address: f for f in report.findings if f.rule == "peer-never-closes"}  # type: ignore[union-attr]
    assert towards["10.99.0.2"].other_ends[0].netns == web
    assert towards["127.0.0.1"].other_ends[0].process.name == "docker-proxy"  # type: ignore[union-attr]


def test_a_destination_is_named_by_who_listens_there() -> None:
    def work(village: Village) -> tuple[Report, str, str]:
        shop, db = village.house(), village.house()
        village.cable(shop, "10.99.0.1", db, "10.99.0.2")
        client, server = village.move_in("shopper", shop), village.move_in("postgres", db)
        here = f"shopper (pid {village.pid('shopper')})"
        path = f"/proc/{village.pid('shopper')}/ns/net"
        setting = "net.ipv4.ip_local_port_range=40000 40099"
        subprocess.run(["nsenter", f"--net={path}", "sysctl", "-qw", setting], check=True)
        server.do(listen, "10.99.0.2", 5432)
        meet(client, server, 90, "10.99.0.2", 5432)
        close_first(client, server)
        village.await_in(shop, {State.TIME_WAIT: 90})
        return look(), here, f"postgres (pid {village.pid('postgres')})"

    report, shop, db = alone(work)
    found = finding(report, "ports-running-out", shop)
    (end,) = found.other_ends
    assert end.text == f"10.99.0.2:5432 is {db}"
    assert (end.sockets, end.must_act) == (0, False)
    assert found.severity >= Severity.WARNING


def test_commands_work_where_they_are_pasted() -> None:
    def work(village: Village) -> tuple[str, str]:
        web = village.house()
        server, client = village.move_in("server", web), village.move_in("client", web)
        village.closed_first(web, server, client, 25)
        found = finding(look(), "server-closes-first", f"server (pid {village.pid('server')})")
        command = found.advice[0].verify.partition(": ")[2]
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        return command, done.stdout

    command, out = alone(work)
    assert command.startswith("nsenter -t ")
    assert len(out.splitlines()) == 25


def test_a_sysctl_is_set_inside_and_not_on_the_host() -> None:
    def work(village: Village) -> tuple[list[str], str, str]:
        web = village.house()
        server, client = village.move_in("server", web), village.move_in("client", web)
        pid = village.pid("server")
        inside = ["nsenter", "-t", str(pid), "-n", "sysctl", "-n"]
        name = "net.ipv4.tcp_fin_timeout"
        subprocess.run([*inside[:-1], "-qw", f"{name}=30"], check=True)
        village.closed_first(web, server, client, 25)
        report = look()
        found = next((f for f in report.findings if f.rule == "misleading-sysctl"), None)
        assert found is not None, (told(report), report.gaps, report.namespaces)
        command = next(a.how for a in found.advice if "sysctl -w" in a.how)
        subprocess.run(command, shell=True, check=True, capture_output=True)
        seen = [
            subprocess.run([*words, name], check=True, capture_output=True, text=True).stdout
            for words in (inside, ["sysctl", "-n"])
        ]
        return [a.do for a in found.advice], seen[0].strip(), seen[1].strip()

    advice, inside, here = alone(work)
    assert (inside, here) == ("60", "60")
    assert "Keep net.ipv4.tcp_fin_timeout beyond the next start" in advice


def test_a_namespace_that_ends_during_the_look_is_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(village: Village) -> Report:
        dying = village.house()
        server = village.move_in("dying", dying)
        server.do(listen)
        os.close(dying)

        def find_and_end() -> Found:
            found = find_namespaces()
            server.leave()
            return found

        monkeypatch.setattr("twdiag.sources.live.namespaces.search.find_namespaces", find_and_end)
        return look()

    report = alone(work)
    assert report.gaps == ()
    assert [n.label for n in report.namespaces] == []


def test_a_namespace_without_a_process_is_looked_at_and_its_commands_lead_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "kept here"
    path.touch()

    def work(village: Village) -> tuple[Report, str]:
        kept = village.house()
        server, client = village.move_in("server", kept), village.move_in("client", kept)
        link = f"/proc/{village.pid('server')}/ns/net"
        subprocess.run(["mount", "--bind", link, str(path)], check=True)
        village.closed_first(kept, server, client, 25)
        server.leave()
        client.leave()
        os.close(kept)
        report = look()
        command = report.findings[0].advice[0].verify.partition(": ")[2]
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        return report, done.stdout

    report, rows = alone(work)
    assert told(report) == [("restart-blocked", "kept here")]
    assert [n.label for n in report.namespaces] == ["host", "kept here"]
    assert f"nsenter --net='{path}' ss" in report.findings[0].advice[0].verify
    assert len(rows.splitlines()) == 25


def test_what_may_not_be_entered_is_read_from_outside_and_said() -> None:
    def work(village: Village) -> Report | None:
        web = village.house()
        server, client = village.move_in("server", web), village.move_in("client", web)
        village.closed_first(web, server, client, 25)
        return look_as_nobody()

    report = alone(work)
    if report is None:
        pytest.skip("this namespace knows no other user")
    ((rule, netns),) = told(report)
    assert rule == "server-closes-first"
    assert netns.startswith("server ")
    (looked,) = (n for n in report.namespaces if n.label == netns)
    assert looked.outside
    (gap,) = (gap for gap in report.gaps if gap.what == "netns")
    assert gap.why == (
        f"1 namespace was read from outside ({netns}): no budgets, ages or backlogs there"
    )
    assert "CAP_SYS_ADMIN" in gap.how


def test_what_would_take_too_long_from_outside_is_left_out_and_named() -> None:
    def work(village: Village) -> Report | None:
        web = village.house()
        server = village.move_in("server", web)
        server.do(listen)
        return look_as_nobody(0.0)

    report = alone(work)
    if report is None:
        pytest.skip("this namespace knows no other user")
    (gap,) = (gap for gap in report.gaps if gap.what == "namespaces")
    assert "1 network namespace was not looked at (server (pid " in gap.why
    assert gap.why.endswith("no time was left")


def test_a_host_without_other_namespaces_says_nothing_of_them() -> None:
    report = alone(lambda _: look())
    assert report.namespaces == ()
    assert report.gaps == ()
    asked = alone(lambda _: look(ask_for_all=True))
    # A PID namespace of its own hides whatever is beside it: that is told to who asks for all.
    assert [gap.what for gap in asked.gaps] == ["barred-namespaces"]


def test_looking_into_one_namespace_gives_commands_for_it() -> None:
    def work(village: Village) -> tuple[Report, int, int]:
        web = village.house()
        server, client = village.move_in("server", web), village.move_in("client", web)
        village.closed_first(web, server, client, 25)
        client.do(close)
        pid, other = village.pid("server"), village.pid("client")
        return host.look_in(str(pid), AT_ONCE), pid, other

    report, pid, other = alone(work)
    (found,) = report.findings
    assert report.netns == str(pid)
    assert report.gaps == ()
    assert found.namespace is not None
    assert found.namespace.pid == pid
    # Not by the server itself: the check must still work once that was restarted.
    assert f"nsenter -t {other} -n ss " in found.advice[0].verify


def test_a_process_elsewhere_is_asked_what_it_does_instead() -> None:
    def work(village: Village) -> tuple[Report, int]:
        web, shop = village.house(), village.house()
        village.cable(web, "10.99.0.1", shop, "10.99.0.2")
        server, client = village.move_in("leaky", web), village.move_in("shopper", shop)
        leak(server, client, "10.99.0.1")
        village.await_in(shop, {State.FIN_WAIT2: 6})
        return host.look_at_all(AT_ONCE._replace(causes=True), 30), village.pid("leaky")

    report, pid = alone(work)
    found = finding(report, "close-wait-leak", f"leaky (pid {pid})")
    assert found.waits[0] == "nobody watches any of 6 sockets: forgotten by the program"
    assert any(str(pid) in step.run for step in found.steps)


CONMON = """
import os, socket, subprocess, sys
sys.path.insert(0, sys.argv[1])
from twdiag.lab import kernel, network
if os.fork() == 0:
    if sys.argv[2] == "new":
        network.enter_private()
    else:
        kernel.setns(os.open(f"/proc/{sys.argv[2]}/ns/net", os.O_RDONLY))
    port = int(sys.argv[3])
    server = socket.create_server(("127.0.0.1", port))
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(25)]
    served = [server.accept()[0] for _ in clients]
    for ours, theirs in zip(served, clients):
        ours.close()
        theirs.recv(1)
        theirs.close()
    print(os.getpid(), flush=True)
    sys.stdin.read()
os.wait()
"""


def test_a_sidecar_is_named_beside_the_container_whose_network_it_shares(tmp_path: Path) -> None:
    """Two containers by the command lines of those who watch them, as podman starts them."""
    script = tmp_path / "watch.py"
    script.write_text(CONMON)
    conmon = tmp_path / "conmon"
    conmon.symlink_to(os.path.realpath(sys.executable))

    def container(name: str, number: int, network: str, port: int) -> tuple[Any, int]:
        source = str(Path(twdiag.__file__).parent.parent)
        options = ["-n", name, "-c", f"{number}" * 64, "libpod"]
        started = subprocess.Popen(
            [str(conmon), str(script), source, network, str(port), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert started.stdout is not None
        return started, int(started.stdout.readline())

    def work(_: Village) -> Report:
        web, pid = container("web_1", 1, "new", 8080)
        side, _ = container("side_1", 2, str(pid), 9090)
        report = look()
        for started in (web, side):
            started.communicate("")
        return report

    report = alone(work)
    assert {f.netns for f in report.findings} == {"web_1"}
    by_port = {f.subject.port: f for f in report.findings}  # type: ignore[union-attr]
    assert {port: f.container.label for port, f in by_port.items() if f.container} == {
        8080: "web_1",
        9090: "side_1",
    }
    assert {where(f) for f in by_port.values()} == {"web_1", "side_1, network of web_1"}
    (looked,) = (n for n in report.namespaces if n.namespace)
    assert looked.label == "web_1"


def test_counters_elsewhere_are_read_again_without_entering() -> None:
    def work(village: Village) -> tuple[int, int, bool]:
        web = village.house()
        server, client = village.move_in("server", web), village.move_in("client", web)
        village.closed_first(web, server, client, 30)
        pid = village.pid("server")
        namespace = next(n for n in find_namespaces().namespaces if pid in n.pids)
        counted_at = time.monotonic()
        known = sources.OneOfMany(namespace.pids)
        snapshot = inside(namespace, lambda: sources.collect("auto", 0.0, known))
        meet(client, server, 7)
        close_first(server, client)
        village.await_in(web, {State.TIME_WAIT: 37})
        paced = sources.paced(snapshot, counted_at, f"/proc/{pid}/net")
        assert paced.pace is not None
        assert snapshot.pace is None
        return (
            paced.pace.grown["TcpExt.TW"],
            snapshot.counters["TcpExt.TW"],
            sources.is_closing(snapshot),
        )

    assert alone(work) == (7, 30, True)
