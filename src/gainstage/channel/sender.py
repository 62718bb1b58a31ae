"""The training's end of a channel: rows into the ring, events beside it. Waits for nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from gainstage.channel.control import Control
from gainstage.channel.events import Event, encode
from gainstage.channel.place import ChannelPlace
from gainstage.channel.rows import FEWEST_SLOTS, RowWriter
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo

_POLL_S = 0.002


class Sender:
    """Writes what a process sees into its channel: the sink of its recorder."""

    def __init__(self, place: ChannelPlace, control: Control) -> None:
        """Take a channel that is made.

        Args:
            place: Its folder.
            control: Its words and events, opened.
        """
        self.control = control
        self._place = place
        self._rows: RowWriter | None = None
        self.append: Callable[[Row], None] = _no_ring
        """Writes the row of one step, once `set_tensors` has made a ring."""

    def append_weights(self, step: int, norms: Sequence[float | None]) -> None:
        """Write the 2-norms of the parameters before a step."""
        if self._rows is not None:
            self._rows.append_weights(step, norms)

    def set_tensors(self, tensors: Sequence[TensorInfo]) -> None:
        """Take the watched parameters anew: a ring of their number, which is read after the last.

        Raises:
            OSError: If there is no room for it.
        """
        number = self.control.rings
        try:
            rows = RowWriter(self._place.rows(number), tensors)
        except OSError:
            # A full disk, or files may not be as large: the fewest slots do while the observer is
            # awake.
            rows = RowWriter(self._place.rows(number), tensors, FEWEST_SLOTS)
        before, self._rows = self._rows, rows
        self.append = rows.append
        self.control.rings = number + 1
        if before is not None:
            before.succeed()

    def send(self, event: Event) -> None:
        """Hand over what is rare; dropped and counted where there is no room."""
        self.control.send(encode(event))

    def wake(self) -> None:
        """Wake the observer, if there is one."""
        try:
            descriptor = os.open(self._place.wake, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nobody reads: it looks by itself, or is not there
        try:
            os.write(descriptor, b"!")
        except OSError:
            return  # full: it is awake
        finally:
            os.close(descriptor)

    def flush(self, limit_s: float) -> bool:
        """Have the observer write what is there; False where it did not within the limit."""
        request = self.control.ask_to_flush()
        self.wake()
        return wait_until(lambda: self.control.flushed >= request, limit_s)


def wait_until(holds: Callable[[], bool], limit_s: float) -> bool:
    """Wait for something that another process does; False where it has not by the limit."""
    until = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def _no_ring(row: Row) -> None:
    raise RuntimeError("no ring of rows yet: call set_tensors first")
