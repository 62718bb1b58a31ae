"""Trials of treatments on the unmodified script, and the source patch that comes of the best."""
