"""The commands that go on until they are stopped, run to their end: watch and trace."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

WATCH: Final = [sys.executable, "-m", "twdiag", "watch", "--interval", "0.1", "--source", "none"]
TRACE: Final = [sys.executable, "-m", "twdiag", "trace", "--source", "multicast"]
ENVIRON: Final = os.environ | {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": ""}


def ran(command: Sequence[str], *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run one of them to its end; `options` are those of subprocess.run()."""
    usual: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": ENVIRON,
    }
    return subprocess.run(
        [*command, *words], text=True, timeout=60, check=False, **(usual | options)
    )
