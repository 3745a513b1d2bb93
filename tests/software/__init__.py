"""Tests of twdiag/software."""
