"""The hot path: gradient norms and clipping, the only code that runs on every step."""
