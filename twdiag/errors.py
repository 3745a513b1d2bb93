"""The errors that reach a user: one sentence, a next step and an exit code."""

from __future__ import annotations

TYPE_CHECKING = False  # typing takes milliseconds, and the start loads this
if TYPE_CHECKING:
    from collections.abc import Mapping


class TwdiagError(Exception):
    """Something twdiag cannot do; shown as `what` and, on a second line, `next_step`.

    `exit_code` is 3 (UNKNOWN) unless a subclass says otherwise: not being able to look is never
    a warning or a critical state of the host.
    """

    exit_code = 3

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


def was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error: a class statement, say, wraps what it meets."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


class UsageError(TwdiagError):
    """The words on the command line, in the environment or in a file make no sense."""


def refuse_both(given: Mapping[str, object], next_step: str = "use one of them") -> None:
    """Raise UsageError where more than one of some options was given, by {"--option": value}."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise UsageError(f"{names[0]} and {names[1]} exclude each other", next_step)


class SourceError(TwdiagError):
    """A source of socket states cannot be read."""


class SourceRefused(SourceError):
    """The kernel refuses a source (a missing right or a missing kernel feature)."""
