"""Tests of twdiag.sources.live.processes."""
