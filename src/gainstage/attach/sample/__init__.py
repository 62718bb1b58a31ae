"""Which backward calls are sampled, and what is read there."""
