"""The room of configurations for other programs."""
