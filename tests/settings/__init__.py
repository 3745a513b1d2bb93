"""Tests of twdiag/settings."""
