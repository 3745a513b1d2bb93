"""Try what twdiag says of other people's software on the real programs: `python -m tests.software`.

Each trial runs a server of its own, with its own files, in a private network namespace.
"""
