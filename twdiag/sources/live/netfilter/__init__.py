"""Netfilter: what connection tracking counts and holds, and what NAT rules do to ports."""
