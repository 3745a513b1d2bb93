"""Read the NAT rules of this network namespace: those of nf_tables and of the old iptables."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from twdiag.errors import SourceError
from twdiag.model.nat import NatRules
from twdiag.sources.live.netfilter import nf_tables
from twdiag.sources.live.netfilter.ip_tables import read_ip_tables
from twdiag.sources.live.netfilter.nf_tables import Chain, Jump
from twdiag.sources.live.netfilter.nfnetlink import DONE, ERROR, datagrams, messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twdiag.model.nat import NatRule, Ports

FOR_SOURCES: Final = (nf_tables.POSTROUTING, nf_tables.LOCAL_IN)
FOR_DESTINATIONS: Final = (nf_tables.PREROUTING, nf_tables.LOCAL_OUT)
_MOST_CHAINS: Final = 64
"""A node of a cluster has a chain for each service; those that are looked into are bounded."""


def read_nat_rules(hooks: Sequence[int], seconds: float) -> NatRules:
    """Return what the NAT rules entered at these hooks do, as far as the time allows.

    Only the chains of type nat and what they lead to are asked for.  Raises SourceRefused without
    CAP_NET_ADMIN, SourceError where the answer makes no sense.
    """
    until = time.monotonic() + seconds
    chains, complete = _nat_chains(until)
    found: list[NatRule] = []
    for base in chains:
        if base.hook in hooks:
            rules, all_of_it = _rules_from(base, until)
            local = base.hook == nf_tables.LOCAL_OUT
            found += [rule._replace(local=local) for rule in rules]
            complete &= all_of_it
    wanted = nf_tables.POSTROUTING in hooks
    found += [rule for rule in read_ip_tables() if rule.source == wanted]
    return NatRules(tuple(found), complete)


def _nat_chains(until: float) -> tuple[list[Chain], bool]:
    chains: list[Chain] = []
    for datagram in datagrams(nf_tables.GET_CHAIN, b"", until):
        for kind, at, end in messages(datagram):
            if kind in (DONE, ERROR):
                return chains, True
            if kind == nf_tables.NEW_CHAIN:
                chain = nf_tables.nat_chain(datagram, at, end)
                if chain is not None:
                    chains.append(chain)
    return chains, False


def _rules_from(base: Chain, until: float) -> tuple[list[NatRule], bool]:
    """Return the NAT rules of a chain and of all that it leads to."""
    waiting, seen = [(Jump(base.name, None, True))], set[Jump]()
    found: list[NatRule] = []
    complete = True
    while waiting:
        via = waiting.pop(0)
        if via in seen:
            continue
        if len(seen) == _MOST_CHAINS:
            return found, False
        seen.add(via)
        done = False
        for one in _deeds(base._replace(name=via.chain), until):
            if one is None:
                done = True
            elif isinstance(one, Jump):
                waiting.append(Jump(one.chain, one.to or via.to, one.certain and via.certain))
            else:
                found.append(one._replace(to=one.to or via.to, certain=one.certain and via.certain))
        complete &= done
    return found, complete


def _ports_of_set(family: int, table: bytes, until: float, name: bytes) -> tuple[Ports, ...] | None:
    """Return the ports in a set, None where they were not seen, or are none."""
    request = nf_tables.elements_request(table, name)
    elements: list[tuple[int, bool]] = []
    try:
        for datagram in datagrams(nf_tables.GET_ELEMENTS, request, until, family):
            for kind, at, end in messages(datagram):
                if kind in (DONE, ERROR):
                    return nf_tables.ranges_of(elements)
                if kind == nf_tables.NEW_ELEMENTS:
                    elements += nf_tables.elements_in(datagram, at, end)
    except SourceError:  # the rule counts as one that was not understood
        return None
    return None


def _deeds(chain: Chain, until: float) -> Iterator[NatRule | Jump | None]:
    """Yield what the rules of a chain do, and None at the end of the dump."""
    request = nf_tables.rule_request(chain)
    ports_of = cache(partial(_ports_of_set, chain.family, chain.table, until))
    for datagram in datagrams(nf_tables.GET_RULE, request, until, chain.family):
        for kind, at, end in messages(datagram):
            if kind in (DONE, ERROR):
                yield None
                return
            if kind == nf_tables.NEW_RULE:
                deed = nf_tables.what_rule_does(datagram, at, end, ports_of)
                if deed is not None:
                    yield deed
