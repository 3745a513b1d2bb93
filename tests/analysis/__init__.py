"""Tests of twdiag/analysis."""
