"""PgBouncer: its queue."""

from __future__ import annotations

import os

from tests.software.stage import HERE, Stage, backlog, program

CONFIG = """
[databases]
[pgbouncer]
listen_addr = {here}
listen_port = 6432
unix_socket_dir =
auth_type = any
logfile = {folder}/log
"""


def try_the_queue(stage: Stage) -> str:
    path = program("pgbouncer", "pgbouncer")
    config = stage.file("pgbouncer.ini", CONFIG.format(here=HERE, folder=stage.folder))
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    stage.start(path, *user, config, port=6432)
    assert backlog(6432) == 128
    return "the queue is 128 long"
