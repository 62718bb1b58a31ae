"""Logs that other tools wrote, one file a format: each reader returns rows of numbers by name."""
