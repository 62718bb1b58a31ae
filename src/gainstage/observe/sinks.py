"""The end of live sinks that lies in the training process: a thread that writes into a pipe."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import gainstage
from gainstage.channel.config import VARIABLE
from gainstage.facts.blocks import StepBlock
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.store.series import Choice
from gainstage.store.series_line import block_line

_LINES_HELD = 1200
"""Ten minutes of a run whose sinks do not keep up."""
_CLOSE_S = 60.0
_DROPPED = 1
"""Exit code of the process when a sink was dropped."""


class LiveSinks:
    """Sends the chosen series of a run to the process that feeds its sinks."""

    def __init__(self, sinks: Sequence[str], folder: Path, *, warn: Callable[[str], None]) -> None:
        """Start the process, in a thread of its own.

        Args:
            sinks: As `--sink` gives them, checked, with absolute paths.
            folder: The run's folder.
            warn: Takes one line when the sinks are lost.
        """
        self._choice = Choice()
        self._warn = warn
        self.is_complete = True
        """Whether all sinks have taken everything so far."""
        self._is_lost = False
        self._dropped = 0
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES_HELD)
        self._lines.put(json.dumps({"sinks": list(sinks), "folder": str(folder)}))
        self._thread = threading.Thread(target=self._work, name="gainstage-sinks", daemon=True)
        self._thread.start()

    def take(
        self, tensors: Sequence[TensorInfo], block: StepBlock, symptoms: Sequence[Symptom]
    ) -> None:
        """Queue steps and the symptoms that they have brought. Waits for nothing."""
        if self._is_lost or not (len(block) or symptoms):
            return
        try:
            self._choice.see(tensors, block)
            self._choice.admit()
            line = block_line(self._choice.block(tensors, block), symptoms)
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += len(block)
        except Exception as error:
            self._lose(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Wait until the sinks have everything and are closed."""
        try:
            self._lines.put(None, timeout=_CLOSE_S)
            self._thread.join(_CLOSE_S)
        except queue.Full:
            pass  # told below
        if self._thread.is_alive():
            self._lose(f"they have not ended within {_CLOSE_S:.0f} s")
        elif self._dropped and not self._is_lost:
            self._lose(f"they did not keep up and miss {self._dropped} steps")

    def _lose(self, why: str) -> None:
        self._is_lost = True
        self.is_complete = False
        self._warn(f"the sinks are incomplete: {why}")

    def _work(self) -> None:
        try:
            process = self._start()
        except OSError as error:
            self._lose(error.strerror or str(error))
            return
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                while (line := self._lines.get()) is not None:
                    pipe.write(line + "\n")
                    pipe.flush()
        except BrokenPipeError:
            self._is_lost = True
        code = process.wait()
        if code == _DROPPED:
            self.is_complete = False  # it has said itself which and why
        elif code != 0:
            self._lose(f"their process ended with code {code}")

    def _start(self) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
        home = os.path.dirname(os.path.dirname(os.path.abspath(gainstage.__file__)))
        paths = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), home]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        # -P: a file beside the script must not stand for a module of ours.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "gainstage.integrations.sink_process"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
