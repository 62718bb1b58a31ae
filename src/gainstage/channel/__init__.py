"""The ring in shared memory: all that a watched process and its observer share."""
