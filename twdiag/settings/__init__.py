"""The settings in force: files, environment and flags."""
