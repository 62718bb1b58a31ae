"""Starting a script under watch, and its options."""
