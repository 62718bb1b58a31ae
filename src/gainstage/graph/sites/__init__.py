"""Which line and module made a node."""
