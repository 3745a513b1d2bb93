"""A Report in, characters out: one module for each format."""
