"""Closes as they happen: TCP's trace events where tracefs may be used, else announcements."""
