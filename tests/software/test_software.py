"""What is known of server programs: the files, their loader and the names it recognises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import twdiag.software
from twdiag.software import (
    SIDES,
    TOPICS,
    Software,
    SoftwareFileError,
    Statement,
    all_software,
    find,
    parse_software,
)

FOLDER = Path(twdiag.software.__file__).parent

OFFICIAL = {
    "dev.mysql.com",
    "docs.gunicorn.org",
    "docs.oracle.com",
    "github.com",
    "httpd.apache.org",
    "nginx.org",
    "nodejs.org",
    "pkg.go.dev",
    "www.envoyproxy.io",
    "www.pgbouncer.org",
    "www.php.net",
    "www.postgresql.org",
    "www.uvicorn.org",
}
REPOSITORIES = {
    "apache/httpd",
    "apache/tomcat",
    "benoitc/gunicorn",
    "encode/uvicorn",
    "golang/go",
    "haproxy/haproxy",
    "nginx/nginx",
    "openjdk/jdk",
    "pgbouncer/pgbouncer",
    "php/php-src",
    "redis/redis",
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
"""


def statements() -> list[Statement]:
    return [s for software in all_software() for s in software.server + software.client]


def test_every_file_is_a_program_of_its_name() -> None:
    assert [f"{s.name}.toml" for s in all_software()] == sorted(
        path.name for path in FOLDER.glob("*.toml")
    )


def test_the_promised_programs_are_there() -> None:
    assert {s.name for s in all_software()} == {
        "apache",
        "envoy",
        "go",
        "gunicorn",
        "haproxy",
        "mysql",
        "nginx",
        "nodejs",
        "pgbouncer",
        "php-fpm",
        "postgresql",
        "redis",
        "tomcat",
        "uvicorn",
    }


@pytest.mark.parametrize("software", all_software(), ids=lambda s: s.name)
def test_each_program_says_how_it_closes_as_a_server(software: Software) -> None:
    assert software.advice("server", "closes-first")


@pytest.mark.parametrize("statement", statements(), ids=lambda s: s.text[:40])
def test_statement_is_complete_and_short(statement: Statement) -> None:
    assert statement.topic in TOPICS
    assert statement.text.endswith(".")
    for key, longest in LONGEST.items():
        value = getattr(statement, key)
        assert len(value) <= longest, key
        assert value == value.strip(), key
        assert value.isprintable(), key
        assert value.isascii(), key
        # A square bracket would be read as markup where a renderer forgets to escape it.
        assert "[" not in value, key


@pytest.mark.parametrize("statement", statements(), ids=lambda s: s.text[:40])
def test_source_is_the_projects_own_site_or_repository(statement: Statement) -> None:
    source = urlsplit(statement.source)
    assert source.scheme == "https"
    assert source.netloc in OFFICIAL
    if source.netloc == "github.com":
        assert "/".join(source.path.split("/")[1:3]) in REPOSITORIES


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


def test_no_name_means_two_programs() -> None:
    patterns = [pattern for s in all_software() for pattern in s.processes]
    assert len(patterns) == len(set(patterns))


def test_go_is_known_though_no_name_tells_it() -> None:
    go = next(s for s in all_software() if s.name == "go")
    assert go.processes == ()
    assert any("Body" in s.text for s in go.advice("client", "close-wait"))


def test_advice_keeps_the_order_of_the_file() -> None:
    nginx = find("nginx")
    assert nginx is not None
    settings = [s.setting for s in nginx.advice("server", "closes-first")]
    assert settings == ["keepalive_timeout", "keepalive_requests", "keepalive_time"]
    assert nginx.advice("client", "restart") == ()


@pytest.mark.parametrize(("side", "topic"), [("servers", "pool"), ("server", "pools"), ("", "")])
def test_advice_refuses_a_misspelt_side_or_topic(side: str, topic: str) -> None:
    nginx = find("nginx")
    assert nginx is not None
    with pytest.raises(ValueError, match="no such side or topic"):
        nginx.advice(side, topic)


def test_parse_good_file() -> None:
    software = parse_software(GOOD, "demo.toml")
    assert (software.name, software.title, software.processes) == ("demo", "Demo", ("demo",))
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
        ("https://", "http://", "demo.toml: server[0]: source: 'http://example.org/manual' is not"),
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


def test_import_reads_nothing() -> None:
    script = (
        "import sys, twdiag.software as s; "
        "print([m for m in ('tomllib', 'tomli') if m in sys.modules], "
        "s.all_software.cache_info().misses); "
        "s.find('nginx'); s.find('node'); print(s.all_software.cache_info().misses)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[] 0", "1"]


def test_sides_are_the_fields_of_a_program() -> None:
    assert all(hasattr(Software, side) for side in SIDES)
