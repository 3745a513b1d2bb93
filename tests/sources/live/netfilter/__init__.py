"""Tests of twdiag.sources.live.netfilter."""
