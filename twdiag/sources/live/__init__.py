"""What the kernel tells while it happens: trace events and announcements of ended sockets."""
