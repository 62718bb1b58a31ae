"""The observer: drains the channel of a watched process, writes, detects, warns, ends a run."""
