"""What runs and reads `check` for real: Nagios, NRPE, Icinga 2, promtool, systemd and a shell.

Each is skipped where its package is absent; .ci/run installs them on Debian.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.running import SOURCE, forked, process, twdiag
from twdiag import integrations
from twdiag.cli.check import SnippetName

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.running import Said

PLUGINS = "/usr/lib/nagios/plugins"
SNIPPETS = tuple(snippet.name for snippet in integrations.SNIPPETS)


def program(name: str, package: str) -> str:
    """Return the path of a program; skip the test where its package is absent."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:{PLUGINS}")
    if found is None:
        pytest.skip(f"{name} is not here: apt-get install {package}")
    return found


@pytest.fixture
def command(tmp_path: Path) -> str:
    """An installed `twdiag`, at a path that is awkward to quote."""
    folder = tmp_path / "it is 100% here; $HOME & (so on)"
    folder.mkdir()
    script = folder / "twdiag"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {SOURCE!r})\n"
        "from twdiag.cli import main\nmain()\n"
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def plain(command: str, tmp_path: Path) -> str:
    """The same at a plain path, as packages have it."""
    path = tmp_path / "twdiag"
    os.symlink(command, path)
    return str(path)


def snippet(command: str, name: str) -> str:
    """Return what that installation prints."""
    said = forked("check", "--print-config", name, script=command)
    assert (said.code, said.err) == (0, "")
    return said.out


@pytest.mark.parametrize("which", ["plain", "command"])
def test_a_fork_prints_what_a_start_prints(which: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    words = ("check", "--print-config", "cron")
    assert process(path, *words) == forked(*words, script=path)
    assert twdiag(*words) == forked(*words)


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_names_this_installation(name: str, plain: str) -> None:
    assert plain in snippet(plain, name)
    assert f"{sys.executable} -I -m twdiag" in re.sub(
        '", "', " ", forked("check", "--print-config", name).out
    )


@pytest.mark.parametrize("name", SNIPPETS)
def test_no_snippet_gives_more_rights_than_needed(name: str, plain: str) -> None:
    text = snippet(plain, name)
    assert not re.search(r"NOPASSWD:.*[*]", text)  # --output would write any file
    assert not re.search(r"CAP_(?!SYS_PTRACE|DAC_READ_SEARCH)", text)


def test_a_link_leads_to_the_program(command: str, tmp_path: Path) -> None:
    link = tmp_path / "check_twdiag"
    link.symlink_to(command)
    assert shlex.quote(command) in process(str(link), "--print-config", "nrpe").out


def test_negate_understands_the_answer(plain: str) -> None:
    negate = program("negate", "monitoring-plugins-basic")
    said = process(negate, "-s", "-o", "CRITICAL", plain, "check", "--ignore", "misleading-sysctl")
    assert said.code == 2
    assert said.out.startswith("TWDIAG CRITICAL - 0 TIME_WAIT") or "TIME_WAIT" in said.line
    said = process(negate, "-s", "-u", "OK", plain, "check", "--nonsense")
    assert said.code == 0
    assert said.out.startswith("TWDIAG OK - twdiag check has no option")


NAGIOS = """\
cfg_file={folder}/objects.cfg
log_file={folder}/nagios.log
object_cache_file={folder}/objects.cache
status_file={folder}/status.dat
check_result_path={folder}
lock_file={folder}/lock
temp_file={folder}/temp
command_file={folder}/nagios.cmd
illegal_macro_output_chars=`~$&|'"<>
"""
OBJECTS = """
define timeperiod {
    timeperiod_name always
    alias           always
    sunday          00:00-24:00
}
define contact {
    contact_name                    nobody
    host_notifications_enabled      0
    service_notifications_enabled   0
    host_notification_period        always
    service_notification_period     always
    host_notification_commands      check_twdiag
    service_notification_commands   check_twdiag
}
define host {
    host_name           localhost
    address             127.0.0.1
    max_check_attempts  1
    check_period        always
    contacts            nobody
}
define service {
    name                generic-service
    max_check_attempts  1
    check_period        always
    contacts            nobody
    register            0
}
"""


@pytest.mark.parametrize("which", ["plain", "command"])
def test_nagios_accepts_the_configuration(
    which: str, open_folder: Path, request: pytest.FixtureRequest
) -> None:
    nagios = program("nagios4", "nagios4-core")
    folder = open_folder / f"nagios-{which}"
    folder.mkdir()
    folder.chmod(0o777)  # whatever user Nagios becomes
    (folder / "objects.cfg").write_text(snippet(request.getfixturevalue(which), "nagios") + OBJECTS)
    (folder / "nagios.cfg").write_text(NAGIOS.format(folder=folder))
    said = process(nagios, "-v", str(folder / "nagios.cfg"))
    assert said.code == 0, said.out
    assert "Total Errors:   0" in said.out
    assert "Checked 1 services." in said.out


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nrpe_runs_it(open_twdiag: str, open_folder: Path) -> None:
    nrpe = program("nrpe", "nagios-nrpe-server")
    asks = program("check_nrpe", "nagios-nrpe-plugin")
    port = free_port()
    config = open_folder / "nrpe.cfg"
    config.write_text(
        f"pid_file={open_folder}/pid\nserver_port={port}\nserver_address=127.0.0.1\n"
        "allowed_hosts=127.0.0.1\nnrpe_user=nobody\nnrpe_group=nogroup\n"
        f"{snippet(open_twdiag, 'nrpe')}"
    )
    asked = (asks, "-n", "-H", "127.0.0.1", "-p", str(port))
    with subprocess.Popen([nrpe, "-n", "-c", str(config), "-f"]) as daemon:
        try:
            deadline = time.monotonic() + 5
            while process(*asked).code and time.monotonic() < deadline:
                time.sleep(0.05)
            said = process(*asked, "-c", "check_twdiag")
        finally:
            daemon.terminate()
    assert said.code in (0, 1, 2), said
    assert said.line.startswith("TWDIAG ")
    assert "orphans_ratio" in said.perfdata


ICINGA = """
include <itl>
const NodeName = "here"
object Host NodeName {
  check_command = "dummy"
}
"""


@pytest.mark.parametrize("which", ["plain", "command"])
def test_icinga_accepts_the_configuration(
    which: str, open_folder: Path, request: pytest.FixtureRequest
) -> None:
    icinga = program("icinga2", "icinga2-bin")
    if not os.path.isdir("/usr/share/icinga2/include"):
        pytest.skip("Icinga's own definitions are not here: apt-get install icinga2-common")
    config = open_folder / f"icinga2-{which}.conf"
    config.write_text(ICINGA + snippet(request.getfixturevalue(which), "icinga2"))
    said = process(icinga, "daemon", "-C", "-c", str(config))
    assert said.code == 0, said.out + said.err
    assert "Instantiated 1 Service." in said.out
    assert "Finished validating the configuration file(s)." in said.out


def test_promtool_accepts_the_metrics(on: Callable[..., Said]) -> None:
    promtool = program("promtool", "prometheus")
    for name in ("idle", "ports-running-out", "fd-limit", "bucket-overflow", "hostile-name"):
        text = on(name, "--format", "prometheus").out
        done = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("which", "unit"), [("systemd-timer", "twdiag"), ("node-exporter", "twdiag-textfile")]
)
def test_systemd_accepts_the_units(plain: str, tmp_path: Path, which: str, unit: str) -> None:
    analyze = program("systemd-analyze", "systemd")
    service, timer = snippet(plain, which).split(f"# /etc/systemd/system/{unit}.timer")
    (tmp_path / f"{unit}.service").write_text(service)
    (tmp_path / f"{unit}.timer").write_text("#" + timer)
    said = process(
        analyze, "verify", str(tmp_path / f"{unit}.service"), str(tmp_path / f"{unit}.timer")
    )
    assert said.code == 0, said.err
    assert "twdiag" not in said.err, said.err


@pytest.mark.parametrize("which", ["plain", "command"])
def test_the_crontab_line_runs(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = snippet(request.getfixturevalue(which), "cron")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[0] == "MAILTO=root"
    fields = lines[1].split(None, 6)
    assert fields[:6] == ["*/5", "*", "*", "*", "*", "root"]
    # cron(8): an unescaped % is a newline, an escaped one is itself.
    assert not re.search(r"(?<!\\)%", fields[6])
    line = fields[6].replace(r"\%", "%").replace("/var/lib/twdiag", shlex.quote(str(tmp_path)))
    environ = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "HOME": str(tmp_path)}
    said = process("/bin/sh", "-c", line, env=environ, cwd="/")
    assert said.code in (0, 1, 2)
    assert (said.out == "") is (said.code == 0)
    assert process("/bin/sh", "-c", line, env=environ, cwd="/").out == ""
    assert (tmp_path / "cron").exists()


def test_the_local_check_of_checkmk_runs(command: str, tmp_path: Path) -> None:
    script = tmp_path / "local"
    script.write_text(snippet(command, "checkmk"))
    script.chmod(0o755)
    said = process(str(script), cwd="/")
    assert (said.code, said.err) == (0, "")
    assert re.match(r'[012] "TCP closing" time_wait=', said.out)


def test_every_snippet_has_a_name_on_the_command_line() -> None:
    assert tuple(name.value for name in SnippetName) == SNIPPETS
    assert len(SNIPPETS) == 8


@pytest.mark.parametrize("name", SNIPPETS)
def test_an_awkward_path_is_refused_in_one_sentence(name: str, command: str) -> None:
    for bad in ("a\nb", "it's", 'so "called"', "tab\there", "\x1b[31m"):
        folder = Path(command).parent.parent / bad
        folder.mkdir(exist_ok=True)
        path = shutil.copy(command, folder / "twdiag")
        said = forked("check", "--print-config", name, script=str(path))
        assert said.code == 3
        assert "the path has a quote or a control character" in said.out
        assert "install twdiag at a plain path" in said.out
        assert "Traceback" not in said.err
        assert "\x1b" not in said.out
