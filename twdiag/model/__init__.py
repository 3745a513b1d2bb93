"""The values that flow through twdiag; no computing, no I/O."""
