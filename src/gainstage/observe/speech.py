"""What the observer says to people: lines on standard error, as long as anybody reads them."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from gainstage.show.terminal import safe


class Speech:
    """Lines on a stream. Nothing here raises: a reader that has gone is let go."""

    def __init__(self, file: TextIO | None = None, *, quiet: bool = False) -> None:
        """Take the stream.

        Args:
            file: Where lines go; None for standard error, where there is one.
            quiet: Whether nothing is said to anybody.
        """
        self.file = None if quiet else file or sys.stderr
        self.troubles: list[str] = []
        """What failed within gainstage, in the order in which it was reported."""

    def line(self, text: str) -> None:
        """Print a line, with what a terminal would act on taken out."""
        if self.file is None:
            return
        try:
            print(safe(text), file=self.file, flush=True)
        except (OSError, ValueError):
            self.file = None

    def trouble(self, text: str) -> None:
        """Print that something of gainstage's own failed; `--strict` makes an error of it."""
        self.troubles.append(text)
        self.line(f"gainstage: {text}")

    def let_go(self) -> None:
        """Let the stream go: whoever reads it to its end must not wait for the observer."""
        if self.file is not None and self.file is sys.stderr:
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, 2)
            os.close(null)
        self.file = None
