"""Names for ends of connections, the surest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.upstreams import EndNames, described, parse_hosts

HOSTS = """
127.0.0.1   localhost
10.0.0.5    db1.example db1   # the database
10.0.0.5    other
::1         localhost ip6-localhost
2001:db8:0:0:0:0:0:1  six
::ffff:10.0.0.6  mapped
10.0.0.9
"""
NAMES = EndNames(
    parse_hosts(HOSTS),
    {("0.0.0.0", 5432): "pgbouncer", ("10.0.0.1", 8080): "", ("::", 9000): "php-fpm"},
    frozenset({"10.0.0.1"}),
)


def test_hosts() -> None:
    names = parse_hosts(HOSTS)
    assert names["10.0.0.5"] == "db1.example"
    assert names["2001:db8::1"] == "six"
    assert names["10.0.0.6"] == "mapped"
    assert "10.0.0.9" not in names


@given(st.text(max_size=200))
def test_any_hosts_file(text: str) -> None:
    assert all(name and not name.isspace() for name in parse_hosts(text).values())


def test_a_name_and_a_port() -> None:
    assert NAMES.of("10.0.0.5", 5432) == "db1.example, postgres"
    assert NAMES.of("10.0.0.7", 6379) == "redis"
    assert NAMES.of("10.0.0.7", 4711) == ""


def test_the_owner_of_a_listener_here_beats_the_port() -> None:
    assert NAMES.of("127.0.0.1", 5432) == "pgbouncer"
    assert NAMES.of("10.0.0.1", 9000) == "php-fpm"


def test_a_listener_here_does_not_name_another_host() -> None:
    assert NAMES.of("10.0.0.7", 9000) == ""


def test_a_listener_whose_owner_was_not_seen_still_serves() -> None:
    assert NAMES.serves("10.0.0.1", 8080)
    assert not NAMES.serves("10.0.0.2", 8080)


def test_names_from_outside_are_made_harmless() -> None:
    names = EndNames({"10.0.0.5": "a\x1b[31m"})
    assert names.of("10.0.0.5", 1) == "a\\x1b[31m"


def test_described() -> None:
    assert described("10.0.0.5", 5432, "postgres") == "10.0.0.5:5432 (postgres)"
    assert described("2001:db8::1", 1, "") == "[2001:db8::1]:1"
