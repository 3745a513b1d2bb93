"""All that a command imports when it needs it, loaded once for the processes forked from here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import twdiag

_HEAVY = ("psutil", "pyroute2", "rich.console", "rich.text")


@cache
def load_all() -> None:
    """Import every module of twdiag and the heavy ones of others that it uses.

    Hundreds of tests fork and do their work in the child: each would import its part anew.
    """
    for module in pkgutil.walk_packages(twdiag.__path__, "twdiag."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _HEAVY:
        importlib.import_module(name)
