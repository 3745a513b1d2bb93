"""Tests of twdiag/tcp."""
