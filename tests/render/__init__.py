"""Tests of twdiag/render."""
