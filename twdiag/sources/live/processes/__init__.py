"""Processes: whose a socket is, what holds its descriptors, what its threads wait for."""
