"""Run the command line: as `python -m twdiag`, and as the command `twdiag`."""

from __future__ import annotations

# These two are loaded already: nothing that takes time may come before the hooks below.
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def _last_words(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """End what nobody caught in one sentence: Ctrl-C with 130, all else with 3 (UNKNOWN).

    Python itself would write a traceback and end with 1, which monitoring takes for a WARNING.
    """
    if issubclass(kind, KeyboardInterrupt):
        os._exit(130)
    import contextlib

    from twdiag.errors import was_interrupted

    if was_interrupted(error):
        os._exit(130)
    if os.environ.get("TWDIAG_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        os._exit(3)
    plugin = "check" in sys.argv or os.path.basename(sys.argv[0]) == "check_twdiag"
    head, file = ("TWDIAG UNKNOWN - ", 1) if plugin else ("twdiag: ", 2)
    text = f"{head}internal error: {kind.__name__}: {error}".encode("ascii", "backslashreplace")
    with contextlib.suppress(OSError):
        os.write(file, b" ".join(text.split()) + b"\n")
    os._exit(3)


def _swallowed(found: sys.UnraisableHookArgs) -> None:
    """End for a Ctrl-C that came where Python can only report an error, in a finalizer say."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        os._exit(130)
    sys.__unraisablehook__(found)


# From the first import on: imports are most of a short run, and Ctrl-C comes in any of them.
sys.excepthook, sys.unraisablehook = _last_words, _swallowed

import gc  # noqa: E402

# Imports make 27,000 objects and no garbage, and the collector looks through them again and
# again: 5 % of a start.  A run is short and makes hardly any cycles; main() decides what follows.
gc.disable()

from twdiag.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
