"""The three standard streams of the process: open whatever the caller closed, and say when lost."""

from __future__ import annotations

import contextlib
import os
import sys


def open_missing() -> None:
    """Open the standard streams that the caller closed.

    A file that twdiag opens would get the number of a closed stream otherwise, and the words meant
    for the stream would go into that file.  What is written to a closed stdout fails as it does in
    other programs (EBADF): an answer that nobody got must not end with 0.
    """
    for number in range(3):  # in this order: open() takes the lowest number that is free
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdout is None:
        unwritable = os.open(os.devnull, os.O_RDONLY)
        sys.stdout = open(unwritable, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def say(text: str) -> None:
    """Write a line to stderr, whatever its encoding; where nobody reads it, there is no help."""
    with contextlib.suppress(OSError, ValueError):
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stderr.flush()
