"""Diagnose what the closing side of TCP is doing to a Linux host."""

__version__ = "0.1.0"
