"""Tests of `twdiag check`: its answers, exit codes, files and formats."""
