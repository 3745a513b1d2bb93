"""NamedTuple as typing has it, made in half the time: most of a start goes into making classes.

typing's looks at each annotation and compiles those that are strings.  What is made here has the
same fields, defaults and methods; no annotation is looked at.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:

    class _Made(type):
        """Makes `class X(NamedTuple)` a collections.namedtuple with what its body has besides."""

        def __new__(cls, name, bases, body):
            if not bases:
                return super().__new__(cls, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body[field] for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            for key, value in body.items():
                if key not in fields:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Made):
        """The base of named tuples."""
