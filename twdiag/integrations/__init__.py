"""Configurations for other programs, one template each, filled for one installation.

A template holds `@TWDIAG@` where the command goes, and nothing else is filled in.  Only what is
fixed goes into a command that runs as root: options that write files are no business of whoever may
call it.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from twdiag.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PLACEHOLDER: Final = re.compile(r"@([A-Z_]+)@")


class Snippet(NamedTuple):
    """A configuration: its name, its template, and how the words of a command are written in it."""

    name: str
    file: str
    quoted: Callable[[Sequence[str]], str]


def snippet(name: str, command: Sequence[str]) -> str:
    """Return the configuration of a name for the command that runs twdiag.

    Raises UsageError where the command has a character that no file of this kind takes safely.
    """
    from importlib.resources import files

    _check(command)
    found = _BY_NAME[name]
    template = (files(__name__) / "templates" / found.file).read_text(encoding="utf-8")
    return fill(template, {"TWDIAG": found.quoted(command)})


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders filled; each has to be known, and each be used."""
    used = set(_PLACEHOLDER.findall(template))
    if used != values.keys():
        raise ValueError(f"placeholders {sorted(used)}, values {sorted(values)}")
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def _check(command: Sequence[str]) -> None:
    for word in command:
        if not word.isprintable() or "'" in word or '"' in word:
            raise UsageError(
                f"no configuration can name {word!r}: the path has a quote or a control character",
                "install twdiag at a plain path",
            )


def _shell(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _nagios(words: Sequence[str]) -> str:
    # `$` begins a macro and `;` a comment in an object file.
    return _shell(words).replace("$", "$$").replace(";", r"\;")


def _crontab(words: Sequence[str]) -> str:
    # `%` ends the command in a crontab.
    return _shell(words).replace("%", r"\%")


def _icinga(words: Sequence[str]) -> str:
    """Return words as strings of Icinga's language, where $ also begins a macro."""
    escaped = (word.replace("\\", "\\\\").replace("$", "$$") for word in words)
    return ", ".join(f'"{word}"' for word in escaped)


def _systemd(words: Sequence[str]) -> str:
    return " ".join(map(_systemd_word, words))


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word or ";" in word else word


SNIPPETS: Final = (
    Snippet("nagios", "nagios.cfg", _nagios),
    Snippet("nrpe", "nrpe.cfg", _shell),
    Snippet("icinga2", "icinga2.conf", _icinga),
    Snippet("checkmk", "checkmk.sh", _shell),
    Snippet("cron", "cron.crontab", _crontab),
    Snippet("systemd-timer", "systemd-timer.unit", _systemd),
    Snippet("node-exporter", "node-exporter.unit", _systemd),
    Snippet("prometheus-rules", "prometheus-rules.yml", _shell),
)
"""Every configuration, in the order in which the help names them."""

_BY_NAME: Final = {found.name: found for found in SNIPPETS}
