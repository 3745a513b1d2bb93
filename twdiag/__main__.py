"""Run the command line as `python -m twdiag`."""

from twdiag.cli import main

if __name__ == "__main__":
    main()
