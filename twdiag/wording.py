"""Numbers as they stand in sentences: counts, rates, shares and durations."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMMAND: Final = (
    r"(?:^|: )((?:ss|sysctl|nstat|cat|ls|ping|tcpdump|twdiag|nsenter|py-spy|jcmd|kill|gdb|nc"
    r"|eu-stack|node|dotnet-stack|rbspy|strace|conntrack|nft|docker|podman|kubectl"
    r"|nginx|systemctl) \S.*)$"
)


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 socket" or "27,104 sockets"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def few(names: Iterable[str], most: int = 5) -> str:
    """Return the first names, and how many more there are: "a, b, c, d, e and 3 more"."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def rate(per_second: float) -> str:
    """Return "470/s", "5.7/s" or "0.4/s"."""
    if not per_second:
        return "0/s"
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def share(ratio: float) -> str:
    """Return a ratio as "96 %", never rounded up to 100 % before it is reached."""
    percent = round(100 * ratio, 9)  # 100 * 0.29 is 28.999999999999996
    return f"{math.floor(percent) if percent >= 1 else round(percent, 1):g} %"


def duration(seconds: float) -> str:
    """Return "9 s", "4 min", "3.5 h" or "2.1 days"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"
    return f"{seconds / 86_400:.1f}".removesuffix(".0") + " days"


def pause(seconds: float) -> str:
    """Return a short time as exactly as a timeout is set: "0.25 s", "2.0 s", "75 s", "10 min"."""
    if seconds < 1:
        return f"{seconds:.2g} s"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def between(low: float | None, high: float | None) -> str:
    """Return an age as far as its bounds are known: "12 s to 40 s", "at least 12 s"."""
    if low is None and high is None:
        return "of unknown age"
    if low is None:
        return f"at most {duration(high or 0.0)} old"
    if high is None:
        return f"at least {duration(low)} old"
    if duration(low) == duration(high):
        return f"{duration(low)} old"
    return f"{duration(low)} to {duration(high)} old"


def endpoint(address: str, port: int) -> str:
    """Return "10.0.0.5:5432" or "[2001:db8::1]:5432"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def ss_address(address: str) -> str:
    """Return an address as a filter of ss(8) takes it: IPv6 in brackets, without its interface."""
    plain = address.partition("%")[0]
    return f"[{plain}]" if ":" in plain else plain


def visible(text: str) -> str:
    """Return text from outside with everything that could act on a terminal made visible.

    Control characters (C0, C1, DEL), line separators and bidirectional controls become escapes
    such as \\x1b, and undecodable bytes (surrogates) too, so that the result is one inert line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u00a0" else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def quoted(word: str) -> str:
    """Return a word as a shell takes it, on one line that can be shown and pasted.

    What would act on a terminal stands in $'...', which bash, zsh and ksh know.
    """
    if word.isprintable():
        import shlex

        return shlex.quote(word)
    return "$'" + "".join(map(_in_dollar_quotes, word)) + "'"


def command_of(words: Iterable[str]) -> str:
    """Return a command line of some words, quoted where a shell wants it."""
    return " ".join(map(quoted, words))


def _in_dollar_quotes(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    # Each byte has three digits, or a digit that follows would be taken for a part of it.
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))


def command_in(text: str) -> str:
    """Return the command line that a piece of advice ends with, behind a colon, "" without one."""
    found = re.search(_COMMAND, text)
    return found[1] if found else ""
