"""The gain ledger of `gainstage check`."""
