"""The state before the first failing step: write, rescue, replay."""
