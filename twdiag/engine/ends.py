"""Add to findings who is at the other end of their connections, where that is on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag import sources
from twdiag.analysis.neighbours import MOST_SOCKETS, Neighbour, Neighbourhood
from twdiag.model.snapshot import HOST_NETNS, Gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twdiag.engine.looked import Looked
    from twdiag.model.namespaces import Namespace

OWNER_SECONDS: Final = 0.25
"""What the search for the owners of other ends takes at most: without names they tell less."""


def with_other_ends(
    looked: Sequence[Looked],
    others: Sequence[Namespace] = (),
    owner_seconds: float = OWNER_SECONDS,
) -> list[Looked]:
    """Return the looks with the other ends of their findings' connections.

    `others` are all other namespaces of the host: an address that two of them have tells nothing.
    """
    if not any(one.report.findings for one in looked):
        return list(looked)
    neighbourhood = Neighbourhood(_neighbours(looked, others))
    wanted = {
        inode
        for place, one in enumerate(looked)
        for finding in one.report.findings
        for inode in neighbourhood.inodes(place, finding)
    }
    owners = {inode: held for one in looked for inode, held in one.view.owners.items()}
    snapshots = [one.view.snapshot for one in looked]
    more, _ = sources.find_owners_in(snapshots, wanted - owners.keys(), owner_seconds)
    owners |= more
    told = [
        one._replace(
            report=one.report._replace(
                findings=tuple(
                    neighbourhood.told(place, finding, owners) for finding in one.report.findings
                ),
            )
        )
        for place, one in enumerate(looked)
    ]
    if neighbourhood.half_closed > MOST_SOCKETS:
        why = f"the other ends of {neighbourhood.half_closed:,} half-closed sockets were not sought"
        gap = Gap("other-ends", why, "look at fewer: --netns NAME", partial=True)
        own = told[0].report
        told[0] = told[0]._replace(report=own._replace(gaps=(*own.gaps, gap)))
    return told


def _neighbours(looked: Sequence[Looked], others: Sequence[Namespace]) -> list[Neighbour]:
    """Return the namespaces that were looked at, in their order, and behind them all others."""
    from twdiag.sources.live.addresses import read_addresses

    def addresses(namespace: Namespace | None) -> frozenset[str]:
        if namespace is None:
            return read_addresses()
        return read_addresses(f"/proc/{namespace.pid}/net") if namespace.pids else frozenset()

    seen = {one.namespace for one in looked}
    found = [
        Neighbour(
            HOST_NETNS if one.namespace is None else one.namespace.label,
            addresses(one.namespace),
            one.view,
        )
        for one in looked
    ]
    rest = (namespace for namespace in others if namespace not in seen)
    return found + [Neighbour(n.label, addresses(n)) for n in rest]
