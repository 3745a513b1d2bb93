"""Reports on made hosts, as text: `python -m tests.render` writes them anew to be looked at."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.made import (
    aged,
    close_wait,
    closed_first,
    held,
    listening,
    report_of,
    served,
    snapshot_of,
    time_wait,
)
from twdiag.model.findings import Confidence, OtherEnd, ProcessSubject, Report, Step
from twdiag.model.namespaces import Container
from twdiag.model.snapshot import Gap, Owner
from twdiag.model.waits import Cause, Conclusion
from twdiag.render.pieces import Detail, Look
from twdiag.render.text import render_text
from twdiag.rules.by_cause import Reason, told

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER: Final = Path(__file__).parent / "reports"
SCREEN: Final = Look(width=80, height=24)


class Made(NamedTuple):
    """A report, and how it is written."""

    report: Callable[[], Report]
    look: Look = SCREEN


def empty() -> Report:
    """A host without any socket."""
    return report_of(snapshot_of())


def ports_running_out() -> Report:
    """A client that has used up most of its ports to a database."""
    return report_of(snapshot_of(*time_wait(26_000)))


def leak() -> Report:
    """A leak, with what its process waits for and what to run next."""
    snapshot = snapshot_of(listening(8080), *aged(close_wait(70), 120), owners=held(70, 90, 1024))
    report = report_of(snapshot)
    step = Step("py-spy dump --pid 812", "the line that each thread is at", tool="py-spy")
    waits = ("all 4 workers wait for the upstream 10.0.0.5:5432 (db1, postgres)",)
    findings = (f._replace(waits=waits, steps=(step,)) for f in report.findings)
    return report._replace(findings=tuple(findings))


def one_process_twice() -> Report:
    """Two findings about one process: what to type is said once."""
    accepted = [*aged(close_wait(70), 120)]
    snapshot = snapshot_of(listening(8080), *accepted, owners=held(70, 126, 128))
    report = report_of(snapshot)
    step = Step("py-spy dump --pid 812", "the line that each thread is at", tool="py-spy")
    waits = ("nobody watches 70 of 70 sockets: forgotten by the program",)
    findings = (f._replace(waits=waits, steps=(step,)) for f in report.findings)
    return report._replace(findings=tuple(findings))


def mixed() -> Report:
    """Everything at once: what does not fit is folded and counted."""
    sockets = [
        *served(30),
        *closed_first(400),
        *time_wait(26_000),
        listening(8080),
        *aged(close_wait(70), 120),
    ]
    return report_of(snapshot_of(*sockets, owners=held(70, 90, 1024)))


def unseen() -> Report:
    """A source that shows neither timers nor owners."""
    gaps = (
        Gap("timers", "psutil does not show socket timers", "use --source netlink"),
        Gap("tcp-info", "psutil does not show how long a socket waits", "use --source netlink"),
    )
    return report_of(snapshot_of(*served(3), gaps=gaps))


def hostile() -> Report:
    """A process whose name acts on a terminal, if it is let to."""
    name = "\x1b[2J\x07evil\u202e\u4f60"
    owner = Owner(812, name, "www", 90, 1024)
    sockets = aged(close_wait(70), 120)
    owners = {socket.inode: (owner,) for socket in sockets}
    report = report_of(snapshot_of(listening(8080), *sockets, owners=owners))
    step = Step(f"ps -C {name}", f"{name} is there")
    waits, ends = (
        (f"all wait for {name}",),
        (OtherEnd(f"{name} has to close", name, must_act=True),),
    )
    findings = (
        f._replace(waits=waits, steps=(step,), other_ends=ends, netns=name) for f in report.findings
    )
    return report._replace(findings=tuple(findings))


def paused() -> Report:
    """A leak of a paused container: what lets it go on is the only advice, and has to be told."""
    report = leak()
    (found,) = report.findings
    sentence = "pid 812 is frozen with its cgroup (docker pause, systemctl freeze)"
    conclusion = Conclusion(Cause.FROZEN, Confidence.OBSERVED, sentence, pid=812)
    reason = Reason(conclusion, container=Container("docker", "ab" * 32, "web 1"))
    step = Step("cat /proc/812/cgroup", "the container or unit that is paused")
    finding = told(found, reason)._replace(waits=(sentence,), steps=(step,))
    return report._replace(findings=(finding,))


def many_workers() -> Report:
    """Eighty workers with one leak, of which twenty were looked at; the worst of all is stopped."""
    snapshot = snapshot_of(listening(8080), *aged(close_wait(70), 120), owners=held(70, 90, 1024))
    (found,) = report_of(snapshot).findings
    step = Step("py-spy dump --pid 800", "the line that each thread is at", tool="py-spy")
    waits = ("nobody watches any of 70 sockets: forgotten by the program",)
    findings = []
    for number in range(80):
        pid, name = 800 + number, f"worker-{number}"
        one = found._replace(
            subject=ProcessSubject(pid, name, "app", 799),
            summary=found.summary.replace("java (pid 812)", f"{name} (pid {pid})"),
            pids=(pid,),
        )
        looked = one._replace(waits=waits, steps=(step._replace(run=f"py-spy dump --pid {pid}"),))
        findings.append(looked if number < 20 else one)
    stopped = ("pid 800 is stopped by a signal and does nothing until SIGCONT",)
    go_on = (Step("kill -CONT 800", "it goes on"),)
    findings[0] = findings[0]._replace(waits=stopped, steps=go_on)
    return report_of(snapshot)._replace(findings=tuple(findings))


REPORTS: Final = {
    "empty": Made(empty),
    "ports-running-out": Made(ports_running_out),
    "ports-running-out-full": Made(ports_running_out, Look(width=80, detail=Detail.FULL)),
    "leak": Made(leak),
    "leak-narrow": Made(leak, Look(width=60, height=24)),
    "leak-in-a-pipe": Made(leak, Look()),
    "paused": Made(paused),
    "one-process-twice": Made(one_process_twice),
    "one-process-twice-full": Made(one_process_twice, Look(width=80, detail=Detail.FULL)),
    "mixed": Made(mixed),
    "mixed-brief": Made(mixed, Look(width=80, detail=Detail.BRIEF)),
    "mixed-ascii": Made(mixed, Look(width=80, height=24, unicode=False)),
    "many-workers": Made(many_workers),
    "many-workers-narrow-ascii": Made(many_workers, Look(width=60, height=24, unicode=False)),
    "many-workers-in-a-pipe": Made(many_workers, Look()),
    "unseen": Made(unseen),
    "hostile-name": Made(hostile),
    "hostile-name-ascii": Made(hostile, Look(unicode=False)),
    "hostile-name-full-ascii": Made(hostile, Look(60, unicode=False, detail=Detail.FULL)),
}


def written(made: Made) -> str:
    """Return a report as it is written."""
    out = io.StringIO()
    render_text(made.report(), out, made.look)
    return out.getvalue()


def write_all() -> None:
    """Write every report anew."""
    for name, made in REPORTS.items():
        (FOLDER / f"{name}.txt").write_text(written(made), "utf-8")
