"""Run the command line: as `python -m twdiag`, and as the command `twdiag`."""

import gc
import sys

# Imports make 27,000 objects and no garbage, and the collector looks through them again and
# again: 5 % of a start.  A run is short and makes hardly any cycles.
gc.disable()

try:
    from twdiag.cli import main
except KeyboardInterrupt:  # imports are most of a short run
    sys.exit(130)

if __name__ == "__main__":
    main()
