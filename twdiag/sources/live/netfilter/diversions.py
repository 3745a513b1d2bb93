"""Find where NAT leads connections to a local port: by its rules, and by what is tracked now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twdiag.census.addresses import text_of
from twdiag.model.nat import Diversion, Diversions
from twdiag.sources.live.netfilter.conntrack import read_counters
from twdiag.sources.live.netfilter.nat_rules import FOR_DESTINATIONS, read_nat_rules
from twdiag.sources.live.netfilter.tracked import read_led_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twdiag.model.nat import NatRule

_SECONDS: Final = 2.0
"""Whoever asks for one port waits for the answer."""

_Place = tuple[str, int]


def read_diversions(port: int) -> Diversions:
    """Return what NAT does with a port.  Raises SourceError where the rules may not be read."""
    counters = read_counters()
    rules = read_nat_rules(FOR_DESTINATIONS, _SECONDS)
    tracked = read_led_elsewhere(port, _SECONDS) if counters and counters.entries else {}
    return diversions(port, rules.rules, tracked)


def diversions(port: int, rules: Iterable[NatRule], tracked: Mapping[_Place, int]) -> Diversions:
    """Return where a port is led, rules first; `tracked` counts connections by where they go."""
    left = dict(tracked)
    found: dict[Diversion, int] = {}
    unsure = 0
    for rule in rules:
        if rule.to is None or not rule.certain:
            unsure += 1
        elif rule.takes(port):
            new_port = rule.ports[0] if rule.ports else None
            address = None if rule.addresses is None else text_of(rule.addresses[0])
            ends = (address or "", new_port or port)
            found[Diversion(address, new_port, local=rule.local)] = left.pop(ends, 0)
    by_rule = [one._replace(connections=number) for one, number in found.items()]
    by_entry = [
        Diversion(address, there, by_rule=False, connections=number)
        for (address, there), number in sorted(left.items(), key=lambda item: (-item[1], item[0]))
    ]
    return Diversions((*by_rule, *by_entry), unsure)
