"""Every socket counted, few kept: what one look at one namespace adds up to."""
