"""The completion scripts, and what writes them from the command line of the program itself."""
