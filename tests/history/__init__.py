"""Tests of twdiag/history."""
