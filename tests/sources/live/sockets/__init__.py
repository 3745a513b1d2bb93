"""Tests of twdiag.sources.live.sockets."""
