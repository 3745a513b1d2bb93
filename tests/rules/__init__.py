"""Tests of twdiag/rules."""
