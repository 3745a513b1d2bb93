"""What each command does, without a command line."""
