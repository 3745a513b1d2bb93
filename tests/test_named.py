"""Named tuples are those of typing, but for what it takes to make them."""

from __future__ import annotations

import pickle
import typing

import pytest

from twdiag.named import NamedTuple


class Own(NamedTuple):
    """A thing."""

    name: str
    size: int = 3
    parts: tuple[Unknown, ...] = ()  # type: ignore[name-defined]  # noqa: F821  # nobody looks

    @property
    def double(self) -> int:
        return 2 * self.size

    @classmethod
    def of(cls, name: str) -> Own:
        return cls(name, 0)

    def __bool__(self) -> bool:
        return self.size > 0


class Typed(typing.NamedTuple):
    """A thing."""

    name: str
    size: int = 3
    parts: tuple[int, ...] = ()


class Empty(NamedTuple):
    """No field at all."""


def test_a_named_tuple_has_fields_defaults_and_methods() -> None:
    one = Own("a")
    assert (one.name, one.size, one.parts) == one == ("a", 3, ())
    assert one._replace(size=4).double == 8
    assert Own.of("b") == Own(name="b", size=0)
    assert not Own.of("b")
    assert repr(one) == "Own(name='a', size=3, parts=())"
    assert Empty() == ()


def test_it_is_made_as_that_of_typing() -> None:
    for name in ("_fields", "_field_defaults", "__doc__", "__module__", "__slots__", "__bases__"):
        assert getattr(Own, name) == getattr(Typed, name), name
    assert Own.__qualname__ == "Own"
    assert set(dir(Typed)) - {"__orig_bases__"} <= set(dir(Own))


def test_it_is_refused_what_it_does_not_have() -> None:
    with pytest.raises(TypeError, match="name"):
        Own()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="other"):
        Own("a", other=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Own("a").size = 4  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Own("a").other = 4  # type: ignore[attr-defined]


def test_another_process_gets_the_same() -> None:
    assert pickle.loads(pickle.dumps(Own("a", 5))) == Own("a", 5)
    assert type(pickle.loads(pickle.dumps(Own("a", 5)))) is Own
