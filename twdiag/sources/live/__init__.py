"""Readers of the running kernel, in rooms; what stands here beside them is for all of them.

Lowest are `sockets`, `netfilter` and `tracing`, then `processes`, then `namespaces`.
"""
