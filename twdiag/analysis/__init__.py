"""What rules see: a snapshot's sockets, sorted by what they mean."""
