"""Tests of twdiag/cli."""
