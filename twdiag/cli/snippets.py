"""How this installation of twdiag is called, for the configurations of `check --print-config`."""

from __future__ import annotations

import os
import shutil
import sys


def snippet(name: str) -> str:
    """Return the configuration of a name for this installation."""
    from twdiag import integrations

    return integrations.snippet(name, command())


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
