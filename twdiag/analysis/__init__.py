"""What is worked out of values before anything is judged.  Pure: no clock, no I/O."""
