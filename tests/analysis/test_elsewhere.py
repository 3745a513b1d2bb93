"""What a finding of another namespace advises works there when it is pasted."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.elsewhere import moved, placed
from twdiag.model.findings import Advice, Confidence, Finding, HostSubject, Severity, Step
from twdiag.model.namespaces import Container, Namespace

WEB = Namespace("web_1", 3, 4026532246, (915, 916), "nginx")
KEPT = Namespace("kept", None, 4026532247, paths=("/run/netns/kept here",))
NOWHERE = Namespace("nowhere", 5, 5)


def finding(how: str = "", verify: str = "", run: str = "py-spy dump --pid 915") -> Finding:
    return Finding(
        Severity.NOTICE,
        Confidence.OBSERVED,
        "something",
        HostSubject(),
        {},
        (Advice("Do it", how, verify=verify),),
        steps=(Step(run, "look"),),
    )


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("ss -tan dst 10.0.0.5 dport = :80", "nsenter -t 915 -n ss -tan dst 10.0.0.5 dport = :80"),
        ("fewer rows: ss -ltn sport = :80", "fewer rows: nsenter -t 915 -n ss -ltn sport = :80"),
        (
            "sysctl -w net.ipv4.tcp_tw_reuse=1",
            "nsenter -t 915 -n sysctl -w net.ipv4.tcp_tw_reuse=1",
        ),
        ("this grows: nstat -az TcpExtTW", "this grows: nsenter -t 915 -n nstat -az TcpExtTW"),
        ("on that host, look: ss -ltn sport = :80", "on that host, look: ss -ltn sport = :80"),
        ("ping 10.0.0.5", "nsenter -t 915 -n ping 10.0.0.5"),
        ("no new one: twdiag --interval 10", "no new one: twdiag --interval 10 --netns 915"),
        ("twdiag trace --port 80 --for 10s", "twdiag trace --port 80 --for 10s --netns 915"),
        ("twdiag explain close-wait-leak", "twdiag explain close-wait-leak"),
        ("twdiag --all-netns --process 7", "twdiag --all-netns --process 7"),
        ("ls /proc/915/fd | wc -l", "ls /proc/915/fd | wc -l"),
        ("py-spy dump --pid 915", "py-spy dump --pid 915"),
        ("systemctl restart nginx", "systemctl restart nginx"),
        ("Recv-Q falls to 0", "Recv-Q falls to 0"),
        ("", ""),
    ],
)
def test_commands_of_a_namespace_are_led_there_and_others_stay(text: str, there: str) -> None:
    assert moved(text, WEB) == there


def test_a_file_leads_where_no_process_is() -> None:
    assert moved("ss -tan", KEPT) == "nsenter --net='/run/netns/kept here' ss -tan"
    assert moved("twdiag --full", KEPT) == "twdiag --full --netns '/run/netns/kept here'"


def test_a_lasting_file_is_preferred_to_a_process_that_may_be_restarted() -> None:
    named = Namespace("b3-a", 3, 4, (2773,), "python3", ("/run/netns/b3-a",))
    assert moved("ss -tan", named) == "nsenter --net=/run/netns/b3-a ss -tan"
    assert moved("twdiag --full", named) == "twdiag --full --netns b3-a"


@pytest.mark.parametrize("name", ["2773", "host", "a b", "-x"])
def test_a_name_that_netns_would_take_for_something_else_is_written_as_a_path(name: str) -> None:
    named = Namespace(name, 3, 4, (2773,), "python3", (f"/run/netns/{name}",))
    words = shlex.split(moved("twdiag --full", named))
    assert words[-2:] == ["--netns", f"/run/netns/{name}"]


def test_a_file_that_is_reached_through_a_process_lasts_no_longer_than_that() -> None:
    hidden = Namespace("x", 3, 4, (915,), "nginx", ("/proc/915/root/run/netns/x",))
    assert moved("ss -tan", hidden) == "nsenter -t 915 -n ss -tan"
    assert moved("twdiag --full", hidden) == "twdiag --full --netns 915"


def test_the_way_in_is_another_process_than_the_one_that_the_finding_restarts() -> None:
    there = placed(finding("ss -ltn")._replace(pids=(915,)), WEB)
    assert there.advice[0].how == "nsenter -t 916 -n ss -ltn"
    both = placed(finding("ss -ltn")._replace(pids=(915, 916)), WEB)
    assert both.advice[0].how == "nsenter -t 915 -n ss -ltn"
    assert there.namespace == WEB


def test_where_nothing_leads_in_a_command_stays() -> None:
    assert moved("ss -tan", NOWHERE) == "ss -tan"
    assert moved("twdiag --full", NOWHERE) == "twdiag --full"


@given(st.text())
def test_any_text_keeps_all_that_it_says(text: str) -> None:
    there = moved(text, WEB)
    assert there.replace("nsenter -t 915 -n ", "").replace(" --netns 915", "") == text.replace(
        "nsenter -t 915 -n ", ""
    ).replace(" --netns 915", "")


@given(st.text(min_size=1).filter(str.isprintable))  # the others: tests/test_wording.py
def test_any_file_name_is_one_word(name: str) -> None:
    kept = Namespace("kept", None, 1, paths=(f"/run/netns/{name}",))
    words = shlex.split(moved("ss -tan", kept))
    assert words == ["nsenter", f"--net=/run/netns/{name}", "ss", "-tan"]


SETTING = "sysctl -w net.ipv4.tcp_tw_reuse=1"


@pytest.mark.parametrize(
    ("container", "how"),
    [
        (
            Container("docker", "ab" * 32, "web_1"),
            "start the container with docker run --sysctl net.ipv4.tcp_tw_reuse=1 ...",
        ),
        (
            Container("podman", "ab" * 32, "web_1"),
            "start the container with podman run --sysctl net.ipv4.tcp_tw_reuse=1 ...",
        ),
        (
            Container("containerd", "ab" * 32, "shop/web", "0ffe3748-0000"),
            'put {name: net.ipv4.tcp_tw_reuse, value: "1"} into securityContext.sysctls of the pod',
        ),
        (
            Container("lxc", "web", "web"),
            "put lxc.sysctl.net.ipv4.tcp_tw_reuse = 1 into the container's configuration",
        ),
        (None, "set it where the namespace is made"),
        (Container("systemd", "web.service", "web"), "set it where the namespace is made"),
    ],
)
def test_a_sysctl_is_told_where_it_stays(container: Container | None, how: str) -> None:
    there = Namespace("web_1", 3, 3, (915,), container=container)
    now, kept = placed(finding(SETTING), there).advice
    assert now.how == f"nsenter -t 915 -n {SETTING}"
    assert (kept.do, kept.how) == ("Keep net.ipv4.tcp_tw_reuse beyond the next start", how)


def test_a_pod_is_told_which_sysctls_its_kubelet_has_to_allow() -> None:
    pod = Namespace("p", 3, 3, (915,), container=Container("cri-o", "ab" * 32, "p", "0ffe3748"))
    _, unsafe = placed(finding(SETTING), pod).advice
    assert "--allowed-unsafe-sysctls=net.ipv4.tcp_tw_reuse" in unsafe.cost
    _, safe = placed(finding('sysctl -w net.ipv4.ip_local_port_range="32768 60999"'), pod).advice
    assert 'name: net.ipv4.ip_local_port_range, value: "32768 60999"' in safe.how
    assert "unsafe" not in safe.cost


def test_a_finding_carries_its_namespace_and_its_steps_work_there() -> None:
    there = placed(finding("ss -ltn", run="ss -tanp state close-wait"), WEB)
    assert (there.netns, there.namespace) == ("web_1", WEB)
    assert there.steps[0].run == "nsenter -t 915 -n ss -tanp state close-wait"
    assert there.located == "in web_1: something"
    assert finding().located == "something"


@pytest.mark.parametrize(
    ("label", "located"),
    [
        ("1", "in 1: web (pid 915) on 10.0.0.1:80"),  # a part of the address by chance
        ("web", "in web: web (pid 915) on 10.0.0.1:80"),  # the network's name and a program's
        ("web (pid 915)", "web (pid 915) on 10.0.0.1:80"),
    ],
)
def test_a_place_is_left_out_only_where_the_summary_has_the_very_process(
    label: str, located: str
) -> None:
    there = finding()._replace(summary="web (pid 915) on 10.0.0.1:80", netns=label)
    assert there.located == located
