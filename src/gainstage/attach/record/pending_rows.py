"""Rows whose numbers are still on their way from an accelerator, delivered in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gainstage.norms.deferred import Fetch, Number

Finish: TypeAlias = Callable[[list[float | None]], None]

_MOST_WAITING = 1024
"""Rows under way before the oldest is waited for: a device this far behind has other troubles."""


class PendingRows:
    """A queue of rows under way. Neither adding nor delivering waits for the device."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Fetch, Finish]] = deque()
        """Those under way, oldest first."""

    def add(self, numbers: Sequence[Number], finish: Finish) -> None:
        """Begin to fetch numbers; `finish` takes them as floats, in a later call of `deliver`."""
        self.waiting.append((Fetch(numbers), finish))

    def deliver(self, *, wait: bool = False) -> None:
        """Finish the rows that have arrived, in order; all of them where told to wait."""
        waiting = self.waiting
        while waiting and (wait or len(waiting) > _MOST_WAITING or waiting[0][0].is_there()):
            fetch, finish = waiting.popleft()
            finish(fetch.numbers())
