"""Tests of the readers of sockets, counters, sysctls and owners."""
