"""Other tools: gainstage as one argument of a framework, and what a run sends to trackers."""
