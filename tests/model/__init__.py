"""Tests of twdiag/model."""
