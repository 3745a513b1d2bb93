"""Tests of the readers of the running kernel."""
