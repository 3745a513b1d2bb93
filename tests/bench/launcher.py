"""Start processes one after the other and tell what each took: the small parent of all measured.

Small matters: what the kernel reports as a child's peak memory includes what its parent had at the
time of execve (exec_mmap() in fs/exec.c), so a large parent would hide every small child.  For the
same reason this file imports next to nothing and talks in marshal.
"""

import marshal
import os
import signal
import sys
import time

NOTHING = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


def launch(argv: list[str], environment: dict[str, str]) -> tuple[float, float, float, int, int]:
    """Return (wall, user and system seconds, peak bytes, exit code) of one process."""
    begin = time.perf_counter()
    child = os.posix_spawn(
        argv[0], argv, environment, file_actions=NOTHING, setsigdef=[signal.SIGINT]
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begin
    code = os.waitstatus_to_exitcode(status)
    return wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, code


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            order = marshal.load(sys.stdin.buffer)
        except EOFError:
            break
        marshal.dump(launch(*order), sys.stdout.buffer)
        sys.stdout.buffer.flush()
