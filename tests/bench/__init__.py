"""The benchmark: whole processes on hosts full of sockets, interleaved, in ratios.

Run it with `python -m tests.bench`; `--help` lists its parts.
"""
