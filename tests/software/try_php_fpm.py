"""PHP-FPM: how long its accept queue is."""

from __future__ import annotations

from tests.software.stage import Stage, backlog, program, sysctl

CONFIG = """
[global]
error_log = {folder}/error.log
pid = {folder}/pid
daemonize = no
[www]
user = nobody
group = nogroup
listen = 127.0.0.1:9000
pm = static
pm.max_children = 1
"""


def try_the_queue_as_shipped(stage: Stage) -> str:
    for version in ("8.4", "8.3", "8.2", "8.1", "7.4", ""):
        try:
            path = program(f"php-fpm{version}", "php-fpm")
            break
        except Exception as error:
            if not version:
                raise error
    sysctl("net.core.somaxconn", "1234")
    config = stage.file("fpm.conf", CONFIG.format(folder=stage.folder))
    stage.start(path, "-n", "-F", "-y", config, port=9000)
    found = backlog(9000)
    assert found == 1234, found
    return "without listen.backlog the queue is net.core.somaxconn long"
