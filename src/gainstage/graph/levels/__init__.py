"""Levels over depth and time, read from the graph of a sampled backward call."""
