"""What the terminal can show: its width, colours and characters, by the usual conventions."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING

from twdiag.errors import refuse_both

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from twdiag.render.pieces import Detail, Look

_WIDEST = 100
"""Longer lines are hard to read; a wide terminal does not widen the report beyond this."""


def detail_of(brief: bool, full: bool) -> Detail:
    """Return the detail that --brief or --full asks for."""
    from twdiag.render.pieces import Detail

    refuse_both({"--brief": brief, "--full": full})
    return Detail.BRIEF if brief else Detail.FULL if full else Detail.NORMAL


def look_of(
    out: TextIO,
    color: str,
    detail: Detail,
    *,
    ascii: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Look:
    """Return how to write to a stream: wrapped on a terminal, never wrapped or cut in a pipe.

    `ascii` is what --ascii asks for; without it the locale and the terminal decide.
    """
    from twdiag.render.pieces import Look

    on_terminal = out.isatty()
    width = min(columns(), _WIDEST) if on_terminal else None
    height = shutil.get_terminal_size().lines or 24 if on_terminal else None
    unicode = not ascii and not is_dumb(out, environ) and draws(out, environ)
    return Look(width, wants_color(on_terminal, color, environ), unicode, detail, height)


def columns() -> int:
    """Return COLUMNS, else the terminal's own width; 80 in a pipe and where that is not known."""
    return shutil.get_terminal_size().columns or 80  # a serial console says 0


def width_of(out: TextIO) -> int | None:
    """Return how wide lines can be that go to a stream, None where it is no terminal."""
    return columns() if out.isatty() else None


def is_dumb(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream goes to a terminal that can neither draw lines nor show a pager."""
    return out.isatty() and environ.get("TERM", "dumb") == "dumb"


def wants_color(on_terminal: bool, color: str, environ: Mapping[str, str]) -> bool:
    """Return whether to use colours: the option, then NO_COLOR, FORCE_COLOR, TERM, the terminal."""
    if color != "auto":
        return color == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return on_terminal and environ.get("TERM") != "dumb"


def can_encode(out: TextIO) -> bool:
    """Return whether a stream can take box-drawing characters."""
    encoding = getattr(out, "encoding", None) or "ascii"
    try:
        "─│◄►·▁█".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def draws(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether box-drawing characters can be read where a stream goes.

    In the C locale Python writes UTF-8 all the same (PEP 538 and 540), to a terminal that may not
    know it; the locale that was meant is asked then.
    """
    if not can_encode(out):
        return False
    if environ.get("PYTHONIOENCODING") or environ.get("PYTHONUTF8"):
        return True
    meant, kind, general = (environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    plain = ("", "C", "POSIX")
    # Python itself has put this there, for every C locale.
    coerced = kind in ("C.UTF-8", "C.utf8", "UTF-8") and general in plain
    return (meant or ("" if coerced else kind) or general) not in plain


@contextlib.contextmanager
def patience(doing: str, after: float = 1.0) -> Iterator[None]:
    """Say on stderr what is being done if it takes long; only a person at a terminal is told."""
    if not sys.stderr.isatty():
        yield
        return
    import signal

    # No thread: some looks fork, and a forked process has no second one.
    def say(*_: object) -> None:
        with contextlib.suppress(OSError):
            print(f"{doing} ...", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def make_output_safe() -> None:
    """Let stdout and stderr escape what they cannot encode rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
