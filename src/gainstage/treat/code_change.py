"""A script that runs with another text than its file has: a change of the code, tried."""

from __future__ import annotations

from gainstage.treat.treatment import Step, Treatment


class CodeChange(Treatment):
    """Counts the steps of a script whose text comes from `source`, as `run` has started it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.details = {"source": source}

    def treat(self, step: Step) -> None:
        """Count the step: all of it is the changed code's."""
        self.touched += 1
