"""Readers of TCP sockets: sock_diag first, then /proc/net/tcp, psutil and pyroute2.

`netlink` takes the whole table into a census, `streaming` hands out its rows one by one; both ask
through `channel`, find rows with `inet_diag` and decode them in `blocks`.  `one_port` and
`idling` ask for a few sockets.
"""
