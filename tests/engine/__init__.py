"""Tests of twdiag/engine."""
