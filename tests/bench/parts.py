"""The parts of the benchmark: TIME_WAITs by number, held sockets, owners, and the start."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from . import commands, sockets
from .measure import Launcher, Setting, available, in_turn, run_rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .commands import Command
    from .measure import Run

    Say = Callable[[str], None]

_REFERENCES: Final = (commands.SS.name, commands.SS_OWNERS.name)
_STARTUP_REFERENCES: Final = (
    commands.IMPORT_TYPER.name,
    commands.MINIMAL_HELP.name,
    commands.MINIMAL_TAB.name,
)

# A run counts if at least so many of the TIME_WAITs were there before and after it.
_BAND: Final = 0.98
# The slow, naive programs take part in so many rounds only.
_NAIVE_ROUNDS: Final = 2
_NAIVE_ABOVE: Final = 50_000
_MOST_ATTEMPTS: Final = 12
# `ss -tanp` takes many seconds on a host with 100,000 owned sockets.
_HELD_ROUNDS: Final = 3


def scale(kind: str, size: int, rounds: int, processes: int, say: Callable[[str], None]) -> Setting:
    """Measure on a host with so many TIME_WAITs.

    They live for 60 s, so they are made again, in a fresh namespace, whenever the rounds that are
    left need longer.
    """
    setting = Setting("scale", kind, {"TIME_WAIT": size}, _REFERENCES)
    plan: list[tuple[int, Command]] | None = None
    for _ in range(_MOST_ATTEMPTS):
        say(f"making {size:,} TIME_WAITs ({kind})")
        with sockets.time_waits(kind, size, processes) as made, Launcher() as launcher:
            if plan is None:
                able = available(commands.HOST_COMMANDS, size, setting)
                plan = _plan(able, rounds, size)
                say(f"made in {made.seconds:.0f} s; measuring")
            while plan:
                number, command = plan[0]
                expected = max(
                    (r.wall for r in setting.runs if r.command == command.name), default=0
                )
                if size and time.monotonic() + 1.2 * expected > made.complete_until:
                    break
                before = sockets.count_time_wait()
                run = launcher.run(command, number)
                after = sockets.count_time_wait()
                if min(before, after) < _BAND * size:
                    break
                plan.pop(0)
                _note(setting, command, run, (before, after))
        if not plan:
            return setting
    raise sockets.BenchError(f"{size:,} TIME_WAITs do not stay alive for long enough here")


def _plan(able: Sequence[Command], rounds: int, size: int) -> list[tuple[int, Command]]:
    """Return what to run, in order: (round, command)."""
    naive = (commands.PSUTIL, commands.PYROUTE2)
    return [
        (number, command)
        for number in range(rounds)
        for command in in_turn(able, number)
        if number < _NAIVE_ROUNDS or size < _NAIVE_ABOVE or command not in naive
    ]


def _note(setting: Setting, command: Command, run: Run | None, alive: tuple[int, int]) -> None:
    if run is None:
        setting.absent[command.name] = "it failed in a round"
    else:
        setting.runs.append(run)
    seen = (*alive, *(setting.alive or ()))
    setting.alive = (min(seen), max(seen))


def holding(
    established: int, close_wait: int, processes: int, rounds: int, say: Callable[[str], None]
) -> Setting:
    """Measure on a host whose processes hold connections and leak CLOSE_WAITs, all of them."""
    share = sockets.Share(established // processes, close_wait // processes)
    return _on_held("held", [share] * processes, min(rounds, _HELD_ROUNDS), say)


def owners(processes: int, fds: int, rounds: int, say: Callable[[str], None]) -> Setting:
    """Measure on a host with many descriptors, where only the youngest process leaks."""
    quiet = sockets.Share(established=min(20, fds), others=max(0, fds - 20))
    leaky = sockets.Share(close_wait=fds)
    return _on_held("owners", [*[quiet] * (processes - 1), leaky], rounds, say)


def _on_held(
    part: str, shares: Sequence[sockets.Share], rounds: int, say: Callable[[str], None]
) -> Setting:
    kept = sockets.affordable(shares)
    if len(kept) < len(shares):
        say(f"memory is short: {len(kept)} processes instead of {len(shares)}")
    counts = {
        "ESTABLISHED": sum(share.established for share in kept),
        "CLOSE_WAIT": sum(share.close_wait for share in kept),
        "processes": len(kept),
        "descriptors": sum(s.established + s.close_wait + s.others for s in kept),
    }
    setting = Setting(part, part, counts, _REFERENCES)
    say(f"{part}: making {', '.join(f'{n:,} {what}' for what, n in counts.items())}")
    with sockets.held(kept), Launcher() as launcher:
        rows = counts["ESTABLISHED"] + counts["CLOSE_WAIT"]
        able = available(commands.HOST_COMMANDS, rows, setting)
        run_rounds(launcher, able, rounds, setting, say)
    return setting


def startup(rounds: int, say: Callable[[str], None]) -> Setting:
    """Measure on an idle host, against programs that do next to nothing."""
    setting = Setting("startup", "idle host", {}, _STARTUP_REFERENCES)
    sockets.enter_namespace()
    with Launcher() as launcher:
        able = available(commands.STARTUP_COMMANDS, 0, setting)
        run_rounds(launcher, able, rounds, setting, say)
    return setting
