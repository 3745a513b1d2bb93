"""The real shells, each on a pseudo-terminal, as TAB finds them."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

ROOT: Final = Path(__file__).resolve().parents[2]
_ESCAPES: Final = re.compile(
    rb"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()].|.)"
)
_PROMPT: Final = "READY>"

_COMMANDS: Final = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "--interactive"],
}
# In each shell `twdiag` shows its words, so that no test runs anything but the completion.
_SETUP: Final = {
    "bash": """
bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'
bind 'set completion-query-items -1'; bind 'set bell-style none'
twdiag() { printf '<%s>' "$@"; echo ' done'; }
. '{folder}/twdiag.bash'
PS1='READY''>'
""",
    "zsh": """
fpath=('{folder}' $fpath); autoload -Uz compinit; compinit -u -D
setopt no_beep no_always_last_prompt; LISTMAX=0; zstyle ':completion:*' list-prompt ''
twdiag() { printf '<%s>' "$@"; echo ' done' }
PROMPT='READY''>' RPROMPT= PROMPT_EOL_MARK=
""",
    "fish": """
set -g fish_greeting; set -g fish_autosuggestion_enabled 0
function twdiag; printf '<%s>' $argv; echo ' done'; end
source '{folder}/twdiag.fish'
function fish_prompt; echo -n READY; echo -n '>'; end
""",
}


def missing(shell: str) -> str:
    """Return why a shell cannot be tried here, nothing where it can."""
    return "" if shutil.which(shell) else f"{shell} is not installed"


class Shell:
    """An interactive shell with the completion of twdiag, in a folder of its own."""

    def __init__(self, shell: str, folder: Path) -> None:
        self._shell = shell
        pid, self._terminal = pty.fork()
        if pid == 0:
            self._become(folder)
        self._pid = pid

    def _become(self, folder: Path) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
            "LINES": "300",
        }
        os.chdir(folder)
        words = _COMMANDS[self._shell]
        os.execvpe(words[0], words, environ)

    def __enter__(self) -> Shell:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 300, 200, 0, 0))
        setup = _SETUP[self._shell].replace("{folder}", str(ROOT / "completions")).strip()
        self._send("\n".join(setup.splitlines()) + "\n")
        self._wait_for(_PROMPT)
        self.settle()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def _send(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        try:
            return os.read(self._terminal, 65536) if ready else b""
        except OSError:
            return b""

    def settle(self, quiet: float = 0.15) -> None:
        """Read what the shell writes until it has been quiet for a while."""
        while self._read(quiet):
            pass

    def _wait_for(self, *texts: str, most: float = 20.0) -> str:
        """Return what the shell writes until all texts were in it, in this order or any other."""
        written, end = b"", time.monotonic() + most
        while True:
            shown = _ESCAPES.sub(b"", written).decode("utf-8", "replace")
            if all(text in shown for text in texts):
                return shown
            if time.monotonic() > end:
                lost = [text for text in texts if text not in shown]
                raise AssertionError(f"{self._shell}: no {lost} in {shown!r}")
            written += self._read(0.1)

    def completed(self, typed: str) -> list[str]:
        """Return the words of the line that a TAB makes of what was typed."""
        self._send(f"{typed}\t\n")
        shown = self._wait_for(" done")
        self.settle(0.05)
        line = [part for part in shown.splitlines() if " done" in part][-1]
        return re.findall(r"<([^>]*)>", line)

    def lists(self, typed: str, *words: str) -> None:
        """Wait until the shell has listed all these words at a TAB after what was typed."""
        self._send(f"{typed}\t" if self._shell == "bash" else f"{typed}\t\t")
        self._wait_for(*words)
        self.settle()
        self._send("\x03")  # ends a menu
        self.settle()
        self._send("\x15\x03")
        self.settle()
