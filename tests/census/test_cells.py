"""Cells lose and double no row, whatever is loose, and tell heavy groups exactly."""

from __future__ import annotations

from array import array
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twdiag.census import cells as cells_module
from twdiag.census.cells import Cells, Key, group_of, keys_of, total

if TYPE_CHECKING:
    from twdiag.census.cells import Groups

ROWS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.booleans()), max_size=120)


def name_of(group: int) -> bytes:
    return group.to_bytes(22, "big")


def assert_exact(groups: Groups, wanted: Counter[int], least: int) -> None:
    """Compare settled groups with {key: rows}; those of `least` rows are told exactly."""
    sizes: Counter[int] = Counter()
    moments: Counter[int] = Counter()
    for key, count in wanted.items():
        sizes[key >> 8] += count
        moments[key & 0xFF] += count
    assert total([*groups.moments.values(), groups.left_out]) == moments
    for group, found in groups.moments.items():
        exact = Counter({key & 0xFF: n for key, n in wanted.items() if key >> 8 == group})
        assert found == exact if sizes[group] >= least else found <= exact
    assert {group for group, size in sizes.items() if size >= least} <= set(groups.moments)


@given(ROWS, st.booleans(), st.integers(1, 6), st.integers(0, 9), st.integers(1, 9), st.booleans())
def test_every_row_is_in_a_group_or_left_out(
    rows: list[tuple[int, int, bool]],
    named: bool,
    sample: int,
    most: int,
    least: int,
    few: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells_module, "_SAMPLE", sample)
        patch.setattr(cells_module, "_MOST_CELLS", most)
        patch.setattr(cells_module, "_MANY_ROWS", 200 if few else 10)
        cells = Cells(22 if named else 0)
        for first in range(0, len(rows), 17):
            batch = rows[first : first + 17]
            keys = array("Q", (group << 8 | moment for group, moment, _ in batch))
            names = [name_of(group) for group, *_ in batch] if named else None
            cells.add(keys, bytes(chosen for *_, chosen in batch), names)
        groups = cells.settle(least)
    wanted = Counter(group << 8 | moment for group, moment, chosen in rows if chosen)
    assert_exact(groups, wanted, 1 if few else least)
    if named:
        assert all(groups.names[group] == name_of(group) for group in groups.moments)


@pytest.mark.parametrize("order", ["heavy first", "heavy last", "shuffled"])
@pytest.mark.parametrize("named", [False, True])
def test_300_000_groups_are_bounded_and_heavy_ones_exact(order: str, named: bool) -> None:
    heavy = [9 << 8 | n % 60 for n in range(6_000)] + [11 << 8 | 5] * 200
    light = [group << 8 | group % 60 for group in range(1_000, 301_000)]
    keys = heavy + light if order == "heavy first" else light + heavy
    if order == "shuffled":
        Random(1).shuffle(keys)
    cells = Cells(22 if named else 0)
    for first in range(0, len(keys), 3000):
        batch = array("Q", keys[first : first + 3000])
        names = [name_of(key >> 8) for key in batch] if named else None
        cells.add(batch, b"\1" * len(batch), names)
    assert len(cells._counts) <= cells_module._MOST_CELLS
    assert len(cells._names) <= cells_module._MOST_CELLS
    groups = cells.settle(64)
    assert groups.moments[9] == Counter(n % 60 for n in range(6_000))
    assert groups.moments[11] == {5: 200}
    assert total([*groups.moments.values(), groups.left_out]).total() == len(keys)
    assert len(groups.moments) < 10_000
    assert set(groups.moments) <= set(groups.names) if named else not groups.names


@given(
    st.lists(
        st.tuples(
            *(st.integers(0, (1 << bits) - 1) for bits in (8, 8, 16, 32)),
        )
    )
)
def test_the_parts_of_a_key_come_back(rows: list[tuple[int, int, int, int]]) -> None:
    moments, tags = bytes(r[0] for r in rows), bytes(r[1] for r in rows)
    ports, addresses = array("H", [r[2] for r in rows]), array("I", [r[3] for r in rows])
    keys = keys_of(moments, tags, ports, addresses)
    assert [(key & 0xFF, *Key.of(group_of(key))) for key in keys] == rows
