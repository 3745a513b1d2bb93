"""Every socket counted, few kept: what one look at one namespace knows of its sockets."""
