"""A treatment as an edit of the user's own source."""
