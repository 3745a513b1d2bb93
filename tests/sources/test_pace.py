"""When a look waits to see how the counters grow: where connections close, or the table is full."""

from __future__ import annotations

import time

import pytest

from twdiag import sources
from twdiag.model.census import History
from twdiag.sources.live.proc import read_counters

COUNTERS, _, _ = read_counters()
NONE = (0,) * 60
NOW = (*NONE[:-10], *[30] * 10)


@pytest.mark.parametrize(
    ("history", "most", "waits"),
    [
        (History(NONE, 0), "131072", False),
        (History(NONE, 100), "131072", False),  # all of them are old
        (History(NOW, 300), "131072", True),
        (History((*NONE[:-1], 10), 10), "131072", False),
        # The table has been full for ten seconds: what closes now leaves no row.
        (History(NONE, 100), "100", True),
        (History(NONE, 96), "100", True),
        (History(NONE, 90), "100", False),
        (History(NONE, 100), "", False),
        (History(NONE, 0), "0", False),
    ],
)
def test_it_waits_where_that_tells_something(history: History, most: str, waits: bool) -> None:
    sysctls = {"net.ipv4.tcp_max_tw_buckets": most}
    pace = sources._pace(COUNTERS, time.monotonic(), history, sysctls, 0.05)
    assert (pace is not None) is waits
    assert pace is None or pace.seconds >= 0.05
