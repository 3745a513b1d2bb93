"""A client whose ports are in TIME_WAIT and may be reused all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twdiag.lab.actors import churn_on_few_ports
from twdiag.lab.scenario import Expected, Scenario

if TYPE_CHECKING:
    from twdiag.lab.stage import Stage


def build(stage: Stage) -> None:
    """Use 90 of 100 ports, all of which the kernel may reuse after a second."""
    stage.sysctl("net.ipv4.tcp_tw_reuse", "1")
    churn_on_few_ports(stage)


SCENARIO = Scenario(
    name="ports-reusable",
    summary="90 of 100 local ports are in TIME_WAIT, and tcp_tw_reuse may reuse them",
    teaches=(
        "With net.ipv4.tcp_tw_reuse=1 and TCP timestamps, connect() may take over a TIME_WAIT of "
        "the same destination once it is older than a second: the timestamp tells old segments "
        "from new ones.  The ports look used up and are not.  The setting helps who connects; a "
        "listening server has no use for it."
    ),
    build=build,
    expects=(Expected("ports-running-out", "notice", {"used": 90, "ports": 100, "reusable": 90}),),
    settle=2.0,
)
