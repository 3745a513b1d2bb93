"""Tests of twdiag.sources.live.tracing."""
