"""The handshake explained: states, scenarios, topics and myths as pages, drawn from twdiag.tcp."""
