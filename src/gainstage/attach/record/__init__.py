"""From hooks to one row a step: the hot path of watching."""
