"""Tests of twdiag.sources.live.namespaces.search."""
