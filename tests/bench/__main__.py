"""The command line of the benchmark: `python -m tests.bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twdiag.errors import TwdiagError

from . import closer, parts, picture, report, sockets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .measure import Setting

_EPILOG: Final = """\
Without a part, all parts run: about five minutes.  It needs root or unprivileged user namespaces,
and changes nothing outside of its own network namespaces.  The kernel keeps the sockets of all
namespaces in one table, so a quiet machine gives quiet figures.

  python -m tests.bench --quick
  python -m tests.bench --scale --kind server,client,mixed --svg growth.svg --json growth.json
  python -m tests.bench --owners --processes 5000 --fds 200
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for and return the exit code."""
    asked = _parser().parse_args(words)
    if asked.quick:
        _make_quick(asked)
    if not any((asked.scale, asked.held, asked.owners, asked.startup, asked.waits)):
        asked.scale = asked.held = asked.owners = asked.startup = asked.waits = True
    settings: list[Setting] = []
    print(report.describe_machine(), flush=True)
    code = 0
    try:
        for setting in _settings(asked):
            settings.append(setting)
            print(f"\n{report.table(setting)}", flush=True)
    except (sockets.BenchError, TwdiagError, OSError) as error:
        print(f"tests.bench: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    _write(asked, settings)
    return code


def _settings(asked: argparse.Namespace) -> Iterator[Setting]:
    """Measure one setting after the other, the cheap ones first."""
    rounds = asked.runs
    if asked.startup:
        # A start takes a tenth of a second, and its goals are a few percent apart.
        yield parts.startup(4 * rounds, _say)
    if asked.waits:
        yield closer.waits(asked.processes, rounds, _say)
    if asked.owners:
        yield parts.owners(asked.processes, asked.fds, rounds, _say)
    if asked.held:
        yield parts.holding(asked.established, asked.close_wait, asked.processes, rounds, _say)
    for kind in asked.kind if asked.scale else ():
        for size in asked.sizes:
            yield parts.scale(kind, size, rounds, asked.makers, _say)


def _say(what: str, began: float = time.monotonic()) -> None:
    print(f"[{time.monotonic() - began:4.0f} s] {what}", file=sys.stderr, flush=True)


def _write(asked: argparse.Namespace, settings: Sequence[Setting]) -> None:
    if asked.json:
        asked.json.write_text(json.dumps(report.as_json(settings), indent=1) + "\n")
    if asked.svg:
        drawn = [s for s in settings if s.part == "scale" and s.name == asked.kind[0]]
        try:
            asked.svg.write_text(picture.growth(drawn, report.describe_machine()))
        except ValueError as error:
            print(f"tests.bench: no picture: {error}", file=sys.stderr)


def _make_quick(asked: argparse.Namespace) -> None:
    asked.sizes, asked.runs = [0, 10_000, 50_000], 3
    asked.processes, asked.established, asked.close_wait = 50, 5_000, 1_000


def _numbers(text: str) -> list[int]:
    return sorted(int(part) for part in text.replace("_", "").split(","))


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    for kind in kinds:
        if kind not in sockets.KINDS:
            raise ValueError(kind)
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure twdiag against ss on hosts full of sockets, in ratios.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--scale", action="store_true", help="part: TIME_WAITs by number")
    add("--held", action="store_true", help="part: ESTABLISHED and leaked CLOSE_WAIT, all named")
    add("--owners", action="store_true", help="part: many descriptors, one process leaks")
    add("--waits", action="store_true", help="part: what 4 threads of each process wait for")
    add("--startup", action="store_true", help="part: an idle host, --help, one completion")
    add("--quick", action="store_true", help="small sizes and few rounds: under a minute")
    add(
        "--sizes",
        type=_numbers,
        default=[0, 10_000, 100_000, 300_000, 600_000],
        metavar="N,N",
        help="numbers of TIME_WAITs (default: 0,10000,100000,300000,600000)",
    )
    add(
        "--kind",
        type=_kinds,
        default=["mixed"],
        metavar="KIND,KIND",
        help="who closes first: server, client, mixed (default: mixed)",
    )
    add("--runs", type=int, default=5, metavar="N", help="rounds (default: 5; --startup: 4 x N)")
    add(
        "--processes", type=int, default=500, metavar="N", help="for --held, --owners, --waits: 500"
    )
    add("--established", type=int, default=100_000, metavar="N", help="for --held: 100000")
    add("--close-wait", type=int, default=20_000, metavar="N", help="for --held: 20000")
    add("--fds", type=int, default=200, metavar="N", help="for --owners, in each process: 200")
    add(
        "--makers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="processes that make TIME_WAITs (default: one a core)",
    )
    add("--json", type=Path, metavar="FILE", help="write every raw value")
    add("--svg", type=Path, metavar="FILE", help="draw the growth curve of the first kind")
    return parser


if __name__ == "__main__":
    sys.exit(main())
