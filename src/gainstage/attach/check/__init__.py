"""One look at a training at hand: `gainstage.check`, and `gainstage check` of a script."""
