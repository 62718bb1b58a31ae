"""`gainstage check` within the script: read what a check needs, and stop the process in time.

Stopping is no exception, for a script may catch any, and `finally` and exit handlers would run:
a checkpoint would be overwritten by that of an untrained network. The record is closed, worker
processes are ended, and the process ends there and then.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.check.measure import (
    NameOf,
    named,
    read_norms,
    read_sharpness,
    read_weights,
)
from gainstage.ledger.gain_data import CheckReadings, InitialWeight, NormBatch, Sharpness
from gainstage.store.readings import write_readings

_MOST_SKIPPED = 40
"""Steps in a row that a loss scaler may leave out: from 2⁶⁵ it would be at 2²⁵ by then."""
_WAIT_S = 5.0


class ScriptCheck:
    """Reads the first graph and the last one before the end, then ends the process."""

    def __init__(self, steps: int, folder: Path, close: Callable[[], object]) -> None:
        """Prepare.

        Args:
            steps: After so many rows the process ends.
            folder: The run's.
            close: Closes the record.
        """
        self._steps = steps
        self._folder = folder
        self._close = close
        self._weights: list[tuple[Tensor, InitialWeight]] = []
        self._norms: list[NormBatch] = []
        self._sharpness: Sharpness | None = None
        self._is_read = False
        self._skipped = 0

    def before_backward(
        self,
        step: int,
        roots: Sequence[Any],
        scale: float | Tensor,
        optimizers: Callable[[], Sequence[Optimizer]],
    ) -> None:
        """Read a graph while it is whole.

        Args:
            step: The step to come.
            roots: What backward is called on.
            scale: The loss scale that is in them.
            optimizers: Returns those of the script.
        """
        tensors = [r for r in roots if isinstance(r, Tensor) and r.grad_fn is not None]
        if not self._is_read and tensors:
            self._is_read = True
            self._weights, self._norms = read_weights(tensors), read_norms(tensors)
        is_last = step == self._steps - 1
        if is_last and self._sharpness is None and len(tensors) == 1 and tensors[0].numel() == 1:
            self._sharpness = read_sharpness(tensors[0], float(scale), optimizers())

    def after_row(self, step: int) -> None:
        """End the process, if the step before `step` was the last one asked for."""
        if step >= self._steps:
            self.stop(0)

    def on_skipped(self) -> None:
        """End the process where a loss scaler finds no scale."""
        self._skipped += 1
        if self._skipped >= _MOST_SKIPPED:
            print(f"gainstage: the loss scaler left out {self._skipped} steps", file=sys.stderr)
            self.stop(0)

    def write(self, name_of: NameOf) -> None:
        """Write what was read, under the names that the record uses."""
        unmeasured = Sharpness(None, note="not measured: no loss of one element at the last step")
        readings = CheckReadings(
            tuple(named(self._weights, name_of)),
            tuple(self._norms),
            self._sharpness or unmeasured,
        )
        write_readings(self._folder, readings)

    def stop(self, code: int) -> None:
        """Close the record and end the process; nothing of the script's runs any more."""
        try:
            self._close()
            _end_children()
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception as error:
            print(f"gainstage: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            code = code or 1
        finally:
            os._exit(code)


def _end_children() -> None:
    """End what multiprocessing has started, such as the workers of a loader."""
    if threading.current_thread() is threading.main_thread():
        # A loader's own handler raises when a worker dies.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(_WAIT_S)
