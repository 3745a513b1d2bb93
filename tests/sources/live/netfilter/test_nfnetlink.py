"""What is said where netfilter refuses: a right is named only where one is lacking."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.errors import SourceRefused
from twdiag.sources.live import rights
from twdiag.sources.live.netfilter.nfnetlink import BODY, ERROR, HEADER, SEQ, messages


def refusal(number: int) -> SourceRefused:
    """Return what a message of the kernel with an error leads to."""
    head = HEADER.pack(BODY, ERROR, 0, SEQ, 0)
    with pytest.raises(SourceRefused) as caught:
        list(messages(head + struct.pack("=i", -number)))
    return caught.value


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_where_a_right_is_lacking_it_is_named(number: int) -> None:
    assert refusal(number).next_step == rights.to_get(*rights.NETFILTER)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP])
def test_where_a_module_is_not_there_no_right_helps(number: int) -> None:
    assert "no module" in refusal(number).next_step


@given(st.integers(1, 2**31 - 1))
def test_every_error_has_a_next_step(number: int) -> None:
    said = refusal(number)
    assert said.what.startswith("netfilter refuses: ")
    assert said.next_step
    about_rights = any(word in said.next_step for word in ("root", "CAP_", "AppArmor"))
    assert about_rights is (number in (errno.EPERM, errno.EACCES))
