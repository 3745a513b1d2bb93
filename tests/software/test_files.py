"""What is known of programs: the files, their loader and the processes it recognises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import twdiag.software
from twdiag.software import (
    SIDES,
    TOPICS,
    Head,
    Idle,
    Software,
    SoftwareFileError,
    Statement,
    all_software,
    find,
    heads,
    load,
    may_race,
)
from twdiag.software.files import parse_head, parse_software

FOLDER = Path(twdiag.software.__file__).parent

OFFICIAL = {
    "dev.mysql.com",
    "docs.aws.amazon.com",
    "docs.cloud.google.com",
    "docs.gunicorn.org",
    "docs.oracle.com",
    "github.com",
    "httpd.apache.org",
    "learn.microsoft.com",
    "ninenines.eu",
    "nginx.org",
    "nodejs.org",
    "pkg.go.dev",
    "www.envoyproxy.io",
    "www.pgbouncer.org",
    "www.php.net",
    "www.postgresql.org",
    "www.rfc-editor.org",
    "www.uvicorn.org",
}
REPOSITORIES = {
    "aio-libs/aiohttp",
    "apache/httpcomponents-client",
    "apache/httpd",
    "apache/tomcat",
    "benoitc/gunicorn",
    "brettwooldridge/HikariCP",
    "caddyserver/caddy",
    "dotnet/aspnetcore",
    "encode/httpcore",
    "encode/httpx",
    "encode/uvicorn",
    "golang/go",
    "grpc/grpc-go",
    "haproxy/haproxy",
    "hyperium/hyper-util",
    "jetty/jetty.project",
    "memcached/memcached",
    "nginx/nginx",
    "openjdk/jdk",
    "openjdk/jdk17u",
    "pgbouncer/pgbouncer",
    "pgjones/hypercorn",
    "php/php-src",
    "psf/requests",
    "psycopg/psycopg",
    "puma/puma",
    "redis/redis",
    "redis/redis-py",
    "seanmonstar/reqwest",
    "sqlalchemy/sqlalchemy",
    "square/okhttp",
    "squid-cache/squid",
    "tinyproxy/tinyproxy",
    "traefik/traefik",
    "unbit/uwsgi",
    "undertow-io/undertow",
    "urllib3/urllib3",
}
LONGEST = {"text": 220, "setting": 90, "default": 110, "change": 140, "cost": 140}

GOOD = """
name = "demo"
title = "Demo"
processes = ["demo"]

[[server]]
topic = "closes-first"
text = "Demo closes first."
setting = "idle"
default = "5"
change = "idle 60"
cost = ""
source = "https://example.org/manual"

[[idle_timeout]]
seconds = 5
setting = "idle"
source = "https://example.org/idle"
"""


def statements() -> list[Statement]:
    return [s for software in all_software() for s in software.server + software.client]


def test_every_file_is_a_program_of_its_name() -> None:
    assert [f"{s.name}.toml" for s in all_software()] == sorted(
        path.name for path in FOLDER.glob("*.toml")
    )


SERVERS = [
    "aiohttp",
    "apache",
    "caddy",
    "cowboy",
    "envoy",
    "go",
    "gunicorn",
    "haproxy",
    "hypercorn",
    "jetty",
    "kestrel",
    "memcached",
    "mysql",
    "nginx",
    "nodejs",
    "pgbouncer",
    "php-fpm",
    "postgresql",
    "puma",
    "redis",
    "squid",
    "tinyproxy",
    "tomcat",
    "traefik",
    "undertow",
    "uvicorn",
    "uwsgi",
]
CLIENTS = [
    "aiohttp",
    "apache-httpclient",
    "dotnet-httpclient",
    "go",
    "grpc",
    "hikaricp",
    "httpx",
    "jdk-httpclient",
    "okhttp",
    "psycopg-pool",
    "redis-py",
    "requests",
    "reqwest",
    "sqlalchemy",
]
BALANCERS = ["aws-alb", "aws-nlb", "azure-lb", "gcp-lb"]


def test_the_promised_programs_are_there() -> None:
    assert {s.name for s in all_software()} == {*SERVERS, *CLIENTS, *BALANCERS}


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_says_how_it_closes(name: str) -> None:
    assert load(name).advice("server", "closes-first")


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "haproxy"])
def test_each_server_says_when_it_closes_an_idle_connection(name: str) -> None:
    # HAProxy has no value of its own: a configuration without timeouts draws a warning.
    assert load(name).idle_timeouts


@pytest.mark.parametrize("name", [*CLIENTS, *BALANCERS])
def test_each_client_says_how_long_it_keeps_a_connection(name: str) -> None:
    assert load(name).keeps_idle
    assert load(name).advice("client", "keep-alive")


def idles() -> list[Idle]:
    return [idle for s in all_software() for idle in s.idle_timeouts + s.keeps_idle]


@pytest.mark.parametrize("idle", idles(), ids=lambda i: f"{i.setting}-{i.seconds}")
def test_idle_time_is_complete_and_short(idle: Idle) -> None:
    assert idle.seconds is None or 0 <= idle.seconds <= 86_400
    # Without a setting there is nothing to name, and the reader is told why.
    assert idle.setting or idle.condition or idle.source
    for value in (idle.setting, idle.condition, idle.versions):
        assert len(value) <= 90
        assert value.isascii()
        assert value == value.strip()


def test_an_idle_time_names_its_versions() -> None:
    puma = load("puma").idle_timeouts
    assert [(i.seconds, i.versions) for i in puma] == [(65, "since 7.0.0"), (20, "before 7.0.0")]
    assert Idle(1, "x", "y", since="1.0", before="2.0").versions == "1.0 to before 2.0"
    assert Idle(1, "x", "y").versions == ""


@pytest.mark.parametrize(
    ("server", "client", "races"),
    [
        ("nginx", "aws-alb", False),
        ("nginx", "gcp-lb", True),
        ("nodejs", "aws-alb", True),
        ("uvicorn", "httpx", True),  # at the same time
        ("apache", "requests", True),
        ("redis", "redis-py", False),
        ("mysql", "hikaricp", False),
        ("mysql", "sqlalchemy", True),
        ("jetty", "jdk-httpclient", True),
        ("puma", "aws-alb", False),
    ],
)
def test_a_race_is_where_the_server_does_not_wait_longer(
    server: str, client: str, races: bool
) -> None:
    assert may_race(load(server).idle_timeouts[0], load(client).keeps_idle[0]) is races


@pytest.mark.parametrize("statement", statements(), ids=lambda s: s.text[:40])
def test_statement_is_complete_and_short(statement: Statement) -> None:
    assert statement.topic in TOPICS
    assert statement.text.endswith(".")
    for key, longest in LONGEST.items():
        value = getattr(statement, key)
        assert len(value) <= longest, key
        assert value == value.strip(), key
        assert value.isprintable(), key
        # A word that is longer than a line of a page has to be broken.
        assert all(len(word) <= 66 for word in value.split()), key
        assert value.isascii(), key
        # A square bracket would be read as markup where a renderer forgets to escape it.
        assert "[" not in value, key


@pytest.mark.parametrize("statement", [*statements(), *idles()], ids=lambda s: s.source)
def test_source_is_the_projects_own_site_or_repository(statement: Statement | Idle) -> None:
    source = urlsplit(statement.source)
    assert source.scheme == "https"
    assert source.netloc in OFFICIAL
    if source.netloc == "github.com":
        assert "/".join(source.path.split("/")[1:3]) in REPOSITORIES


def said(name: str, side: str, topic: str) -> list[Statement]:
    return list(load(name).advice(side, topic))


@pytest.mark.parametrize(
    ("name", "side", "topic", "setting", "pattern"),
    [
        (
            "nginx",
            "server",
            "closes-first",
            "",
            r"the client asks for it: HTTP/1\.0 \(ab\), or Conn",
        ),
        (
            "apache",
            "server",
            "closes-first",
            "",
            r"the client asks for it: HTTP/1\.0 \(ab\), or Conn",
        ),
        ("apache", "server", "accept-queue", "MaxRequestWorkers", r"AH00161"),
        (
            "apache",
            "server",
            "accept-queue",
            "MaxRequestWorkers",
            r"ListenBackLog.* only lets more",
        ),
        ("haproxy", "server", "close-wait", "option abortonclose", r"option abortonclose ends the"),
        (
            "haproxy",
            "client",
            "pool",
            "tune.pool-low-fd-ratio, tune.pool-high-fd-ratio, maxconn",
            r"of its descriptors are open, busy client connections included",
        ),
        (
            "haproxy",
            "client",
            "pool",
            "source (server, backend)",
            r"an address alone costs no port",
        ),
        ("haproxy", "client", "pool", "source (server, backend)", r"IP_BIND_ADDRESS_NO_PORT"),
        ("nginx", "client", "pool", "proxy_bind", r"an address alone costs no port"),
        ("nginx", "client", "pool", "proxy_bind", r"IP_BIND_ADDRESS_NO_PORT"),
        (
            "php-fpm",
            "server",
            "accept-queue",
            "pm.max_children, listen.backlog",
            r"as long as net\.core\.somaxconn allows",
        ),
        ("redis", "server", "keep-alive", "tcp-keepalive", r"about 600 s, twice the setting"),
    ],
)
def test_what_the_real_program_showed_is_said(
    name: str, side: str, topic: str, setting: str, pattern: str
) -> None:
    texts = [s.text for s in said(name, side, topic) if s.setting == setting]
    assert any(re.search(pattern, text) for text in texts), texts


def test_advice_that_was_tried_in_vain_is_not_given() -> None:
    # More workers serve a full queue of Apache, a longer queue serves nobody.
    (queue,) = said("apache", "server", "accept-queue")
    assert "MaxRequestWorkers" in queue.change
    assert "ListenBackLog" not in queue.change
    # timeout client-fin left 10 of 10 CLOSE_WAITs of HAProxy, option abortonclose none.
    (aborted,) = said("haproxy", "server", "close-wait")
    assert aborted.change.startswith("option abortonclose")
    assert "timeout client-fin does not help" in aborted.change
    # A keep-alive setting is no cure where the client asks for the close.
    for name in ("nginx", "apache"):
        asked = next(s for s in said(name, "server", "closes-first") if not s.setting)
        assert asked.change.endswith("No setting here changes it")


def test_threads_alone_make_gunicorn_keep_connections() -> None:
    sync = said("gunicorn", "server", "closes-first")[0]
    assert "--threads 4" in sync.change
    assert "--worker-class" not in sync.change
    assert "more than one thread makes a sync worker a gthread one" in sync.change


def test_php_fpm_names_the_queue_of_today_and_of_old_versions() -> None:
    (queue,) = said("php-fpm", "server", "accept-queue")
    assert re.search(r"-1 on Linux, which is net\.core\.somaxconn \(511 in old", queue.default)


def test_no_statement_is_there_twice() -> None:
    texts = [s.text for s in statements()]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("nginx", "nginx"),
        ("nginx: worker", "nginx"),
        ("nginx: master p", "nginx"),
        ("apache2", "apache"),
        ("httpd", "apache"),
        ("haproxy", "haproxy"),
        ("envoy", "envoy"),
        ("node", "nodejs"),
        ("node-MainThread", "nodejs"),
        ("gunicorn", "gunicorn"),
        ("gunicorn: maste", "gunicorn"),
        ("uvicorn", "uvicorn"),
        ("java", "tomcat"),
        ("php-fpm", "php-fpm"),
        ("php-fpm8.2", "php-fpm"),
        ("php-fpm82", "php-fpm"),
        ("php-fpm: pool w", "php-fpm"),
        ("postgres", "postgresql"),
        ("postmaster", "postgresql"),
        ("mysqld", "mysql"),
        ("mariadbd", "mysql"),
        ("redis-server", "redis"),
        ("pgbouncer", "pgbouncer"),
    ],
)
def test_find_known_name(name: str, program: str) -> None:
    software = find(name)
    assert software is not None
    assert software.name == program


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "*",
        "?ode",
        "[red]",
        "[n]ginx",
        "nginx\n",
        "NGINX",
        "nginx:",
        "nginx-exporter",
        "mynginx",
        "python3",
        "python",
        "MainThread",
        "nodejs-exporter",
        "nodelocaldns",
        "javac",
        "php",
        "php-fpm_exporter",
        "postgres_export",
        "mysqld_exporter",
        "mysqld_safe",
        "redis-cli",
        "redis-server2",
        "haproxy_exporte",
        "httpd.worker",
        "go",
        "\x1b[31mnginx",
    ],
)
def test_find_never_guesses(name: str) -> None:
    assert find(name) is None


@pytest.mark.parametrize(
    ("name", "command", "program"),
    [
        ("ruby", "puma 7.0.0 (tcp://0.0.0.0:9292) [app]", "puma"),
        ("ruby", "puma: cluster worker 0: 12 [app]", "puma"),
        ("java", "/usr/bin/java -Djetty.home=/opt/jetty -jar start.jar", "jetty"),
        ("java", "/usr/bin/java -jar app.jar", "tomcat"),
        ("ruby", "ruby app.rb", None),
        ("python3", "/usr/bin/python3 /usr/local/bin/mypuma app", None),
        ("uwsgi", "", "uwsgi"),
        ("uwsgi-core", "", "uwsgi"),
        ("memcached", "", "memcached"),
        ("squid", "", "squid"),
        ("caddy", "caddy run", "caddy"),
        ("traefik", "", "traefik"),
        ("hypercorn", "", "hypercorn"),
        ("tinyproxy", "", "tinyproxy"),
    ],
)
def test_find_by_name_or_command_line(name: str, command: str, program: str | None) -> None:
    found = find(name, command)
    assert (found.name if found else None) == program


def test_no_name_means_two_programs() -> None:
    patterns = [p for head in heads() for p in (*head.processes, *head.commands)]
    assert len(patterns) == len(set(patterns))


def test_every_other_name_means_one_program() -> None:
    names = [name for head in heads() for name in (head.name, *head.aliases)]
    assert len(names) == len(set(names))


def test_the_head_of_a_file_is_that_of_the_whole() -> None:
    for head in heads():
        assert load(head.name).head == head


def test_go_is_known_though_no_name_tells_it() -> None:
    go = next(s for s in all_software() if s.name == "go")
    assert go.processes == ()
    assert any("Body" in s.text for s in go.advice("client", "close-wait"))


def test_advice_keeps_the_order_of_the_file() -> None:
    nginx = find("nginx")
    assert nginx is not None
    settings = [s.setting for s in nginx.advice("server", "closes-first")]
    assert settings == ["", "keepalive_timeout", "keepalive_requests", "keepalive_time"]
    assert nginx.advice("client", "restart") == ()


@pytest.mark.parametrize(("side", "topic"), [("servers", "pool"), ("server", "pools"), ("", "")])
def test_advice_refuses_a_misspelt_side_or_topic(side: str, topic: str) -> None:
    nginx = find("nginx")
    assert nginx is not None
    with pytest.raises(ValueError, match="no such side or topic"):
        nginx.advice(side, topic)


def test_parse_good_file() -> None:
    software = parse_software(GOOD, "demo.toml")
    assert software.head == Head("demo", "Demo", ("demo",))
    assert (software.name, software.title, software.processes) == ("demo", "Demo", ("demo",))
    assert software.idle_timeouts == (Idle(5, "idle", "https://example.org/idle"),)
    assert software.keeps_idle == ()
    assert parse_head(GOOD, "demo.toml") == software.head
    assert software.client == ()
    assert software.server == (
        Statement(
            "Demo closes first.",
            "idle",
            "5",
            "idle 60",
            "",
            "https://example.org/manual",
            "closes-first",
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Demo"', "title = ", "demo.toml: not TOML: "),
        ('name = "demo"', "", "demo.toml: name: expected a string"),
        ('title = "Demo"', "title = 3", "demo.toml: title: expected a string"),
        ('title = "Demo"', 'title = ""', "demo.toml: title: is empty"),
        ('title = "Demo"', 'titel = "Demo"', "demo.toml: titel: no such key"),
        ('["demo"]', '"demo"', "demo.toml: processes: expected a list of strings"),
        ('["demo"]', '["demo", ""]', "demo.toml: processes: expected a list of strings"),
        ('["demo"]', "[1]", "demo.toml: processes: expected a list of strings"),
        ("[[server]]", "[server]", "demo.toml: server: expected [[server]] tables"),
        ('cost = ""', "", "demo.toml: server[0]: cost: expected a string"),
        ('cost = ""', 'costs = ""', "demo.toml: server[0]: costs: no such key"),
        ('"idle 60"', '""', "demo.toml: server[0]: change: is empty"),
        ('"closes-first"', '"closing"', "demo.toml: server[0]: topic: 'closing' is not one of"),
        (
            "https://example.org/manual",
            "http://example.org/manual",
            "demo.toml: server[0]: source: 'http://example.org/manual' is not",
        ),
        ('name = "demo"', 'name = "other"', "demo.toml: name: 'other' is not the name of the file"),
        ('["demo"]', '["demo"]\ncommands = "x"', "demo.toml: commands: expected a list of strings"),
        ("seconds = 5", "", "demo.toml: idle_timeout[0]: seconds: expected a number, or"),
        ("seconds = 5", "seconds = true", "demo.toml: idle_timeout[0]: seconds: expected a number"),
        ("seconds = 5", "seconds = -1", "demo.toml: idle_timeout[0]: seconds: expected a number"),
        ("seconds = 5", "seconds = nan", "demo.toml: idle_timeout[0]: seconds: expected a number"),
        ("seconds = 5", 'seconds = "ever"', "demo.toml: idle_timeout[0]: seconds: expected a"),
        ("seconds = 5", "second = 5", "demo.toml: idle_timeout[0]: second: no such key"),
        ("seconds = 5", 'seconds = 5\nsince = ""', "demo.toml: idle_timeout[0]: since: is empty"),
        ("/idle", '"\nsource = "', "demo.toml: not TOML: "),
        ("https://example.org/idle", "idle", "demo.toml: idle_timeout[0]: source: 'idle' is not"),
    ],
)
def test_broken_file_names_file_and_key(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(SoftwareFileError) as caught:
        parse_software(GOOD.replace(old, new), "demo.toml")
    assert str(caught.value).startswith(message)


def test_statement_that_is_no_table_names_its_place() -> None:
    text = 'name = "demo"\ntitle = "Demo"\nprocesses = []\nclient = ["pool"]\n'
    with pytest.raises(SoftwareFileError, match=r"^demo.toml: client\[0\]: expected a table$"):
        parse_software(text, "demo.toml")


def test_finding_a_program_reads_one_file_as_a_whole() -> None:
    script = (
        "import sys, twdiag.software as s\n"
        "print("
        "[m for m in ('tomllib', 'tomli') if m in sys.modules], "
        "s.heads.cache_info().misses)\n"
        "s.find('nginx'); s.find('nginx'); s.find('unheard-of')\n"
        "print(s.heads.cache_info().misses, s.load.cache_info().misses)\n"
        "s.find('node'); print(s.load.cache_info().misses)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:3] == ["[] 0", "1 1", "2"]


def test_sides_are_the_fields_of_a_program() -> None:
    assert all(hasattr(Software, side) for side in SIDES)
