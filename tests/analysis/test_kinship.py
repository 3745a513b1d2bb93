"""Relatives: masters and workers, the children of init and of a supervisor, and circles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twdiag.analysis.kinship import family
from twdiag.model.snapshot import Owner


def process(pid: int, parent: int | None, name: str = "nginx", script: str = "") -> Owner:
    return Owner(pid, name, "www", parent=parent, script=script)


def families(*processes: Owner) -> list[tuple[int | None, str]]:
    known = {one.pid: one for one in processes}
    return [family(one, known) for one in processes]


def test_a_master_and_its_workers_are_relatives() -> None:
    assert families(process(9, 1), process(10, 9), process(11, 9), process(12, 11)) == [(9, "")] * 4


def test_children_of_init_are_not() -> None:
    assert families(process(9, 1), process(10, 1), process(11, None)) == [
        (9, ""),
        (10, ""),
        (11, ""),
    ]


def test_the_children_of_an_unseen_parent_are_until_they_run_different_scripts() -> None:
    assert families(process(9, 5), process(10, 5)) == [(5, ""), (5, "")]
    scripts = families(process(9, 5, "python3", "a.py"), process(10, 5, "python3", "b.py"))
    assert scripts == [(5, "a.py"), (5, "b.py")]


def test_a_parent_of_another_name_is_none_unless_only_a_number_differs() -> None:
    master, worker = process(9, 1, "app"), process(10, 9, "app-1")
    assert families(master, worker) == [(9, ""), (9, "")]  # the parent's number, seen or not
    below = process(11, 10, "app-2")
    known = {one.pid: one for one in (master, worker, below)}
    assert family(below, known) == (10, "")
    assert family(below, known, lambda name: name.partition("-")[0]) == (9, "")


@given(st.dictionaries(st.integers(1, 12), st.integers(0, 12)))
def test_whatever_the_parents_are_it_ends(parents: dict[int, int]) -> None:
    found = families(*(process(pid, parent) for pid, parent in parents.items()))
    assert all(number is not None and number > 0 for number, _ in found)
