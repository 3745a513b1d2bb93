"""The three standard streams of the process: open whatever the caller closed, and say when lost."""

from __future__ import annotations

import contextlib
import os
import sys


def open_missing() -> bool:
    """Open closed standard streams on nothing; return whether stdout was open.

    A file that twdiag opens would get the number of a closed stream otherwise, and the words meant
    for the stream would go into that file.
    """
    heard = sys.stdout is not None
    for number in range(3):  # in this order: open() takes the lowest number that is free
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return heard


def say(text: str) -> None:
    """Write a line to stderr, whatever its encoding; where nobody reads it, there is no help."""
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
