"""Tests of twdiag/census."""
