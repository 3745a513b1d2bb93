"""The paths of Unix sockets: whatever stands in the file, and real sockets."""

from __future__ import annotations

import os
import socket
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from twdiag.sources.live.processes.unix_paths import parse_unix_paths, read_unix_paths

HEAD = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126)) | st.just("/run/a b.sock")


def line(inode: int, path: str) -> bytes:
    """Return a line of the file as unix_seq_show() writes it."""
    start = b"000000004c5039de: 00000003 00000000 00000000 0001 03 %5d" % inode
    return start + (b" " + path.encode() if path else b"") + b"\n"


@given(st.lists(st.tuples(st.integers(1, 50), PATHS)), st.sets(st.integers(1, 50)))
def test_each_socket_sought_is_told_with_its_path(
    rows: list[tuple[int, str]], wanted: set[int]
) -> None:
    text = HEAD + b"".join(line(inode, path) for inode, path in rows)
    expected = {inode: path for inode, path in rows if inode in wanted}
    assert parse_unix_paths(text, wanted) == expected


@given(st.binary())
def test_no_text_is_too_strange(text: bytes) -> None:
    assert parse_unix_paths(text, {1, 2, 3}).keys() <= {1, 2, 3}


def test_a_path_that_is_no_text_is_readable() -> None:
    text = HEAD + line(7, "/run/x").replace(b"/run/x", b"/run/\xff")
    assert parse_unix_paths(text, {7}) == {7: "/run/\\xff"}


def test_a_real_socket_has_its_name() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0twdiag-{os.getpid()}")
        inode = os.fstat(listener.fileno()).st_ino
        assert read_unix_paths(os.getpid(), {inode}) == Counter([f"@twdiag-{os.getpid()}"])


def test_a_process_that_is_gone_has_none() -> None:
    assert read_unix_paths(1 << 30, {1}) == Counter()
