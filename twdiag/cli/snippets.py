"""Configurations that a person copies: `check --print-config` with the path of this installation.

Only what is fixed goes into a command that runs as root: options that write files are no business
of whoever may call it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_OWNERS: Final = """\
Without rights twdiag sees all sockets and judges them, but names only the processes of its own
user, and cannot see how near the descriptor limit the others are. For that it needs the
capabilities CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, nothing else."""
_STATE: Final = "/var/lib/twdiag"
_TEXTFILES: Final = "/var/lib/prometheus/node-exporter"

# What a service that only looks at sockets and processes does without.
_SANDBOX: Final = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
RestrictAddressFamilies=AF_NETLINK AF_UNIX
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
"""


def snippet(name: str) -> str:
    """Return the configuration of a name for this installation."""
    return _SNIPPETS[name](command())


def command() -> list[str]:
    """Return the words that run this installation of twdiag."""
    called = sys.argv[0] if sys.argv else ""
    found = shutil.which(called) if called else None
    if found is not None and os.path.basename(found) in ("twdiag", "check_twdiag"):
        path = os.path.abspath(found)
        beside = os.path.join(os.path.dirname(path), "twdiag")
        return [beside if os.access(beside, os.X_OK) else os.path.realpath(path)]
    # -I: without it, python looks for the module in the folder that it is called in first, and
    # whoever may call this line as root could put a module of that name there.
    return [sys.executable or "/usr/bin/python3", "-I", "-m", "twdiag"]


def _shell(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _nagios(words: list[str]) -> str:
    # `$` begins a macro and `;` a comment in an object file.
    line = _shell(words).replace("$", "$$").replace(";", r"\;")
    return f"""\
{_comment(_OWNERS)}#
# Nagios, Naemon: /etc/nagios4/conf.d/twdiag.cfg. $ARG1$ takes more options, such as
# -w time_wait=20000.
define command {{
    command_name    check_twdiag
    command_line    {line} check --timeout 10 $ARG1$
}}

define service {{
    use                     generic-service
    host_name               localhost
    service_description     TCP closing
    check_command           check_twdiag!
}}
"""


def _nrpe(words: list[str]) -> str:
    line = _shell(words)
    return f"""\
{_comment(_OWNERS)}#
# NRPE: /etc/nagios/nrpe.d/twdiag.cfg
command[check_twdiag]={line} check --timeout 10

# To name the processes of all users, allow this one command in /etc/sudoers.d/twdiag
#   nagios ALL=(root) NOPASSWD: {line} check --timeout 10
# and use this line instead. No wildcard there: --state and --output write files.
#command[check_twdiag]=/usr/bin/sudo -n {line} check --timeout 10
"""


def _icinga2(words: list[str]) -> str:
    quoted = ", ".join('"' + _icinga_text(word) + '"' for word in words)
    return f"""\
{_comment(_OWNERS).replace("# ", "// ")}//
// Icinga 2: /etc/icinga2/conf.d/twdiag.conf
object CheckCommand "twdiag" {{
  command = [ {quoted}, "check" ]
  timeout = 15s

  arguments = {{
    "--timeout" = "$twdiag_timeout$"
    "--warning" = {{
      value = "$twdiag_warning$"
      repeat_key = true
      description = "METRIC=RANGE, or an array of them"
    }}
    "--critical" = {{
      value = "$twdiag_critical$"
      repeat_key = true
      description = "METRIC=RANGE, or an array of them"
    }}
    "--limit" = {{
      value = "$twdiag_limit$"
      repeat_key = true
    }}
    "--ignore" = {{
      value = "$twdiag_ignore$"
      repeat_key = true
    }}
    "--state" = "$twdiag_state$"
    "--verbose" = {{
      set_if = "$twdiag_verbose$"
    }}
  }}

  vars.twdiag_timeout = 10
  vars.twdiag_verbose = true
}}

apply Service "tcp-closing" {{
  check_command = "twdiag"
  check_interval = 1m
  assign where host.name == NodeName
}}
"""


def _icinga_text(word: str) -> str:
    """Return a word as a string of Icinga's language, where $ also begins a macro."""
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")


def _cron(words: list[str]) -> str:
    # `%` ends the command in a crontab.
    line = _shell(words).replace("%", r"\%")
    return f"""\
# cron: /etc/cron.d/twdiag. A mail when the status changes, silence in between; root, so that the
# mail names the processes. The folder must exist: install -d -m 700 {_STATE}
MAILTO=root
*/5 * * * * root {line} check --state {_STATE}/cron --notify-on change
"""


def _systemd_timer(words: list[str]) -> str:
    line = " ".join(map(_systemd_word, words))
    return f"""\
{_comment(_OWNERS)}#
# /etc/systemd/system/twdiag.service: the status goes into the journal, and the unit fails on
# CRITICAL and UNKNOWN. A user of its own that may write nowhere but into {_STATE}.
[Unit]
Description=Check what the closing side of TCP does to this host

[Service]
Type=oneshot
ExecStart={line} check --verbose --state {_STATE}/timer
SuccessExitStatus=1
DynamicUser=yes
StateDirectory=twdiag
AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
{_SANDBOX}
# /etc/systemd/system/twdiag.timer: systemctl enable --now twdiag.timer
[Unit]
Description=Check the closing side of TCP every minute

[Timer]
OnCalendar=minutely
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


def _node_exporter(words: list[str]) -> str:
    line = " ".join(map(_systemd_word, words))
    return f"""\
# /etc/systemd/system/twdiag-textfile.service: numbers for node_exporter, which has to run with
# --collector.textfile.directory={_TEXTFILES}
# As root, because that folder is root's, but without any right that is not needed.
[Unit]
Description=Measure what the closing side of TCP does to this host

[Service]
Type=oneshot
ExecStart={line} check --exit-zero --format prometheus --output {_TEXTFILES}/twdiag.prom
CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
ReadWritePaths={_TEXTFILES}
{_SANDBOX}
# /etc/systemd/system/twdiag-textfile.timer: systemctl enable --now twdiag-textfile.timer
[Unit]
Description=Measure the closing side of TCP every minute

[Timer]
OnCalendar=minutely
AccuracySec=5s

[Install]
WantedBy=timers.target
"""


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def _prometheus_rules(words: list[str]) -> str:
    """Return alerts for every rule, for a source that fails and for numbers that grow old."""
    from twdiag.rules import RULES

    alerts = "".join(
        _alert(
            "Twdiag" + "".join(part.capitalize() for part in rule.name.split("-")),
            f'twdiag_finding{{rule="{rule.name}",severity=~"warning|critical"}} > 0',
            "0m",
            "{{ $labels.severity }}",
            f"{rule.manual.partition(chr(10))[0]} ({{{{ $labels.subject }}}})",
            f"Run on the host: twdiag; twdiag explain {rule.name}",
        )
        for rule in RULES
    )
    return f"""\
# Prometheus: rule_files. The numbers come from node_exporter's textfile folder, filled each minute
# by the timer of `--print-config node-exporter`, or by cron:
#   {_shell(words)} check --exit-zero --format prometheus \\
#     --output {_TEXTFILES}/twdiag.prom
groups:
  - name: twdiag
    rules:
{_OWN_ALERTS}{alerts}"""


def _alert(name: str, expression: str, wait: str, severity: str, summary: str, todo: str) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    return f"""\
      - alert: {name}
        expr: {quoted(expression)}
        for: {wait}
        labels:
          severity: {quoted(severity)}
        annotations:
          summary: {quoted(summary)}
          description: {quoted(todo)}
"""


_OWN_ALERTS: Final = (
    _alert(
        "TwdiagCannotLook",
        "twdiag_source_up == 0",
        "5m",
        "warning",
        "twdiag cannot read the sockets of {{ $labels.instance }}",
        "Run on the host: twdiag check -v",
    )
    + _alert(
        "TwdiagOutdated",
        "time() - twdiag_last_run_timestamp_seconds > 900",
        "0m",
        "warning",
        "twdiag has not run on {{ $labels.instance }} for 15 minutes",
        "See why cron or the timer does not start it.",
    )
    + _alert(
        "TwdiagExhaustionNear",
        "twdiag_exhaustion_seconds < 300",
        "0m",
        "critical",
        "{{ $labels.subject }}: used up within 5 minutes ({{ $labels.rule }})",
        "Run on the host: twdiag",
    )
)

_SNIPPETS: Final[Mapping[str, Callable[[list[str]], str]]] = {
    "nagios": _nagios,
    "nrpe": _nrpe,
    "icinga2": _icinga2,
    "cron": _cron,
    "systemd-timer": _systemd_timer,
    "node-exporter": _node_exporter,
    "prometheus-rules": _prometheus_rules,
}
