"""Nagios ranges: the five forms, against nagiosplugin as an oracle, and what is no range."""

from __future__ import annotations

import contextlib

import nagiosplugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.check.metrics import METRICS
from twdiag.check.thresholds import parse_threshold, parse_threshold_flags
from twdiag.errors import UsageError
from twdiag.model.ranges import Range, number, parse_range

numbers = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.decimals(-1_000_000, 1_000_000, places=3).map(lambda d: f"{d:f}"),
)
values = st.one_of(
    st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9, allow_nan=False, allow_infinity=False)
)


@st.composite
def specs(draw: st.DrawFn) -> str:
    """Ranges as people write them, the impossible ones too."""
    start = draw(st.sampled_from(["", "~:", ":"]) | numbers.map(lambda n: f"{n}:"))
    end = draw(numbers) if start in ("", ":") else draw(st.just("") | numbers)
    return draw(st.sampled_from(["", "@"])) + start + end


@given(specs(), values)
def test_as_nagiosplugin_has_it(spec: str, value: float) -> None:
    try:
        oracle = nagiosplugin.Range(spec)
    except ValueError:
        with pytest.raises(UsageError):
            parse_range(spec)
        return
    assert parse_range(spec).alerts(value) is not oracle.match(value)


@given(specs(), values)
def test_what_is_written_means_the_same(spec: str, value: float) -> None:
    try:
        found = parse_range(spec)
    except UsageError:
        return
    assert parse_range(str(found)).alerts(value) is found.alerts(value)
    assert "e" not in str(found)


@pytest.mark.parametrize(
    ("spec", "good", "bad"),
    [
        ("10", [0, 5, 10], [-1, 10.5, 11]),
        ("10:", [10, 1e9], [9.9, -1]),
        ("~:10", [-1e9, 10], [10.1]),
        ("10:20", [10, 20], [9, 21]),
        ("@10:20", [9, 21], [10, 15, 20]),
        ("0", [0], [1, -1]),
        (".5", [0.5], [0.6]),
    ],
)
def test_the_five_forms(spec: str, good: list[float], bad: list[float]) -> None:
    found = parse_range(spec)
    assert not any(found.alerts(value) for value in good)
    assert all(found.alerts(value) for value in bad)


@pytest.mark.parametrize(
    "spec",
    [
        *("", ":", "@", "@:", "20:10", "1:2:3", "ten", "1e3", "nan", "inf", "~", "1,5", "--1"),
        *("٣", "0x1", "9" * 400),
    ],
)
def test_what_is_no_range(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_range(spec)
    assert caught.value.next_step


@given(st.text(max_size=30))
def test_any_text_is_a_range_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(parse_range(text), Range)


@given(st.floats(-1e12, 1e12, allow_nan=False))
def test_numbers_have_no_exponent(value: float) -> None:
    text = number(value)
    assert float(text) == pytest.approx(value, abs=1e-6)
    assert not set(text) - set("-.0123456789")


def test_a_percentage_may_carry_its_sign() -> None:
    assert parse_threshold("ports_used_ratio", "80%", "-w")[1] == Range(0, 80)
    assert parse_threshold("ports-used-ratio", "@0.5%:1%", "-w")[1] == Range(0.5, 1, True)
    assert parse_threshold("time_wait", "1", "-w")[1] == Range(0, 1)


@pytest.mark.parametrize("text", ["0.8", "1", "0.5:20", "~:0.9"])
def test_a_share_of_one_is_refused_where_percent_is_meant(text: str) -> None:
    with pytest.raises(UsageError, match="is in percent"):
        parse_threshold("ports_used_ratio", text, "-w")


def test_a_percent_sign_on_a_number_is_refused() -> None:
    with pytest.raises(UsageError, match="not a number"):
        parse_threshold("time_wait", "80%", "-w")


@pytest.mark.parametrize("flag", ["10", "time_wait", "=10", "time_wait=", " =", "time_wait= "])
def test_a_flag_names_its_metric(flag: str) -> None:
    with pytest.raises(UsageError, match="needs METRIC=RANGE"):
        parse_threshold_flags([flag], "-w")


def test_the_nearest_metric_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'time_wait'"):
        parse_threshold_flags(["timewait=3"], "-w")


def test_metric_names_suit_every_reader() -> None:
    names = [metric.name for metric in METRICS]
    assert len({name[:19] for name in names}) == len(names)  # rrdtool keeps 19 characters
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)
