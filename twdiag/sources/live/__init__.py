"""Readers of the running kernel."""
