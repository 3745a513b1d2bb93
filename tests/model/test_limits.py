"""Thresholds: every default is sound, and a wrong value is refused with its origin and a hint."""

from __future__ import annotations

import pytest

from twdiag.errors import UsageError
from twdiag.model.limits import parse_limit_flags
from twdiag.rules import DEFAULTS, LIMITS


def refusal(values: dict[str, object], origin: str = "/etc/twdiag.toml") -> UsageError:
    with pytest.raises(UsageError) as error:
        DEFAULTS.replaced(values, origin)
    assert error.value.next_step
    assert error.value.exit_code == 3
    return error.value


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_every_default_lies_in_its_own_range(limit: object) -> None:
    name, default = limit.name, limit.default  # type: ignore[attr-defined]
    limits = DEFAULTS
    assert limits[name] == default
    assert limits.origin(name) == "default"
    assert limits.replaced({name: default}, "x")[name] == default


def test_names_are_unique_and_critical_is_not_below_warning() -> None:
    names = [limit.name for limit in LIMITS]
    assert len(set(names)) == len(names)
    for name in names:
        if name.endswith("-critical") and name.replace("critical", "warning") in names:
            assert DEFAULTS[name] >= DEFAULTS[name.replace("critical", "warning")]


@pytest.mark.parametrize("raw", ["0.5", " 0.5 ", 0.5, "5e-1"])
def test_a_value_is_replaced_and_remembers_where_from(raw: object) -> None:
    limits = DEFAULTS.replaced({"ports-warning": raw}, "--limit")
    assert limits["ports-warning"] == 0.5
    assert limits.origin("ports-warning") == "--limit"
    assert limits.origin("ports-critical") == "default"


@pytest.mark.parametrize("name", ["PORTS_WARNING", "ports_warning", " Ports-Warning "])
def test_names_may_be_written_as_in_an_environment(name: str) -> None:
    assert DEFAULTS.replaced({name: "0.4"}, "environment")["ports-warning"] == 0.4


def test_later_origins_win_and_the_first_limits_stay_what_they_were() -> None:
    defaults = DEFAULTS
    file = defaults.replaced({"ports-warning": 0.1, "ports-critical": 0.2}, "file")
    flag = file.replaced({"ports-warning": 0.3}, "flag")
    assert (flag["ports-warning"], flag.origin("ports-warning")) == (0.3, "flag")
    assert (flag["ports-critical"], flag.origin("ports-critical")) == (0.2, "file")
    assert (file["ports-warning"], defaults["ports-warning"]) == (0.1, 0.7)


def test_a_misspelt_name_is_refused_with_the_right_one() -> None:
    error = refusal({"ports-warnin": 0.5})
    assert error.what == (
        "/etc/twdiag.toml: there is no limit 'ports-warnin'; did you mean 'ports-warning'?"
    )
    assert "did you mean" not in refusal({"zzzz": 1}).what


@pytest.mark.parametrize(
    "raw", ["", "half", "0,5", True, False, None, [0.5], {"a": 1}, 10**400, "0x1"]
)
def test_what_is_no_number_is_refused(raw: object) -> None:
    error = refusal({"ports-warning": raw})
    assert error.what.startswith("/etc/twdiag.toml: ports-warning needs a number, not ")
    assert "0.7" in error.next_step


@pytest.mark.parametrize("raw", [-0.1, 1.1, "nan", "inf", "-inf", "1e400", 70])
def test_what_is_out_of_range_is_refused(raw: object) -> None:
    error = refusal({"ports-warning": raw})
    assert error.what.startswith("/etc/twdiag.toml: ports-warning must lie between 0 and 1, not ")


@pytest.mark.parametrize(
    ("name", "raw"), [("close-wait-notice", 0), ("time-wait-rising-factor", 0.5)]
)
def test_limits_have_lower_bounds_of_their_own(name: str, raw: float) -> None:
    assert "must lie between 1 and" in refusal({name: raw}).what


def test_messages_are_one_line_whatever_was_written() -> None:
    assert refusal({"\x1b[31m\n": 1}).what.isprintable()
    assert refusal({"ports-warning": "\x1b[31m\n"}).what.isprintable()


def test_flags() -> None:
    assert parse_limit_flags([]) == {}
    assert parse_limit_flags(["a=1", "b=x=y", "a=2"]) == {"a": "2", "b": "x=y"}


@pytest.mark.parametrize("flag", ["", "a", "=1", "a=", "a= ", " =1"])
def test_a_flag_that_is_no_pair_is_refused(flag: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE") as error:
        parse_limit_flags([flag])
    assert "ports-warning=0.8" in error.value.next_step
