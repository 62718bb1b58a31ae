"""Edits of the user's source, as unified diffs."""
