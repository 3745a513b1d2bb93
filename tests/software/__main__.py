"""Run the trials, or those of the programs named: `python -m tests.software nginx redis`."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests import software
from tests.software.stage import Skipped, in_private


def programs() -> list[str]:
    """Return the names of the programs that have trials."""
    names = (module.name for module in pkgutil.iter_modules(software.__path__))
    return [name.removeprefix("try_") for name in names if name.startswith("try_")]


def run(program: str) -> int:
    """Run the trials of a program, say what came out, and return how many failed."""
    module = importlib.import_module(f"tests.software.try_{program}")
    failed = 0
    for name, trial in vars(module).items():
        if not name.startswith("try_"):
            continue
        try:
            said = "ok       " + in_private(trial)
        except Skipped as reason:
            said = f"skipped  {reason}"
        except AssertionError as error:
            failed += 1
            said = f"FAILED   {name}: {error}"
        print(f"{program:10} {said}", flush=True)
    return failed


def main() -> None:
    """Run what the command line asks for; exit 1 where a statement did not hold."""
    wanted = sys.argv[1:] or programs()
    unknown = sorted(set(wanted) - set(programs()))
    if unknown:
        sys.exit(f"there are no trials of {unknown[0]}; there are: {', '.join(programs())}")
    sys.exit(1 if sum(map(run, wanted)) else 0)


if __name__ == "__main__":
    main()
