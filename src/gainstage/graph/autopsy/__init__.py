"""Which operation was the first wrong one, why, and on which sample."""
