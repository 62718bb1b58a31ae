"""The live panel: the last lines of the terminal, while the script's own output scrolls above them.

The terminal itself keeps the two apart, by its scroll region (DECSTBM): nothing that the script
prints is caught, changed or delayed.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from gainstage.detect.series.trend import headroom_bits
from gainstage.detect.symptom_json import message_of
from gainstage.facts.blocks import StepBlock
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.show.sparkline import sparkline
from gainstage.show.terminal import is_utf, safe, shortened

HEIGHT = 5
_FEWEST_ROWS = 3 * HEIGHT
_REMEMBERED = 512
_SAVE, _RESTORE = "\x1b7", "\x1b8"


def can_show(file: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a stream is a terminal that knows scroll regions and has room for the panel."""
    if not file.isatty() or environment.get("TERM", "dumb") == "dumb":
        return False
    return os.get_terminal_size(file.fileno()).lines >= _FEWEST_ROWS


class LivePanel:
    """Draws the state of a run into the last lines of a terminal, until it is closed."""

    def __init__(self, file: TextIO, script: str) -> None:
        """Make room for the panel.

        Args:
            file: A terminal, as `can_show` tells.
            script: The name to show.
        """
        self._file = file
        self._script = safe(script)
        self._plain = not is_utf(file)
        self._bits: deque[float] = deque(maxlen=_REMEMBERED)
        self._symptoms: dict[str, Symptom] = {}
        self._last: tuple[int, float] | None = None
        self._size = os.get_terminal_size(file.fileno())
        # New lines first: the script's cursor must not stand where the panel will be.
        self._write("\n" * HEIGHT + f"\x1b[{HEIGHT}A" + self._region())

    def update(
        self, tensors: Sequence[TensorInfo], block: StepBlock, symptoms: Sequence[Symptom]
    ) -> None:
        """Take in new steps and the symptoms that they changed, and draw."""
        self._symptoms |= {symptom.symptom: symptom for symptom in symptoms}
        if not len(block):
            return
        with np.errstate(divide="ignore"):
            self._bits.extend(np.log2(block.grad_norm).tolist())
        lines = self._lines(tensors, block)
        size = os.get_terminal_size(self._file.fileno())
        moved = self._region() if size != self._size else ""
        self._size = size
        top = size.lines - HEIGHT + 1
        drawn = "".join(f"\x1b[{top + i};1H\x1b[2K{line}" for i, line in enumerate(lines))
        self._write(f"{moved}{_SAVE}{drawn}{_RESTORE}")

    def close(self) -> None:
        """Give the whole terminal back, the panel's lines empty."""
        top = self._size.lines - HEIGHT + 1
        # Resetting the region moves the cursor, so it is saved around it.
        self._write(f"{_SAVE}\x1b[r\x1b[{top};1H\x1b[0J{_RESTORE}")

    def _region(self) -> str:
        rows = os.get_terminal_size(self._file.fileno()).lines - HEIGHT
        return f"{_SAVE}\x1b[1;{rows}r{_RESTORE}"

    def _write(self, text: str) -> None:
        # In one piece, so that nothing of the script's comes between.
        self._file.write(text)
        self._file.flush()

    def _lines(self, tensors: Sequence[TensorInfo], block: StepBlock) -> list[str]:
        width = self._size.columns - 1
        worst = {s.severity for s in self._symptoms.values()}
        state = "CRITICAL" if "critical" in worst else "WARNING" if "warning" in worst else "OK"
        rule = "-" if self._plain else "─"
        head = f"{rule * 2} gainstage {rule * 2} {shortened(self._script, 32)} "
        head += rule * max(1, width - len(head) - len(state) - 4)
        label = "|g|" if self._plain else "‖g‖"
        bits = list(self._bits)
        line = sparkline(bits, max(8, min(width - 12, 100)), ascii_only=self._plain)
        said = [
            f"{head} {state} {rule}",
            self._numbers(block, label),
            f"{label:<8} {line}",
            self._largest(tensors, block),
            self._latest(),
        ]
        encoding = getattr(self._file, "encoding", None) or "utf-8"
        return [each[:width].encode(encoding, "replace").decode(encoding) for each in said]

    def _numbers(self, block: StepBlock, label: str) -> str:
        step, time = int(block.step[-1]), float(block.time[-1])
        before = self._last or (int(block.step[0]), float(block.time[0]))
        self._last = (step, time)
        speed = (step - before[0]) / (time - before[1]) if time > before[1] else math.nan
        parts = [f"step     {step:,}"]
        if speed == speed:
            parts.append(f"{speed:.3g} steps/s")
        if block.has_loss[-1]:
            parts.append(f"loss {block.loss[-1]:.4g}")
        parts.append(f"{label} {_bits(self._bits[-1])}")
        if block.lr[-1] == block.lr[-1]:
            parts.append(f"lr {block.lr[-1]:.3g}")
        return "   ".join(parts)

    def _largest(self, tensors: Sequence[TensorInfo], block: StepBlock) -> str:
        norms = np.where(block.present[-1], block.grad_norms[-1].astype(np.float64), -1.0)
        if not len(norms) or norms.max(initial=-1.0) < 0:
            return "largest  no gradient"
        # NaN is the largest to argmax, as it should be here.
        index = int(np.argmax(norms))
        norm, info = float(norms[index]), tensors[index]
        left = f", {headroom_bits(norm, info.dtype):.0f} left of {info.dtype}"
        with np.errstate(divide="ignore"):
            level = float(np.log2(norm))
        said = _bits(level) + (left if math.isfinite(level) else "")
        return f"largest  {shortened(safe(info.name), 32)}  {said}"

    def _latest(self) -> str:
        if not self._symptoms:
            return "seen     no symptom"
        order = ("critical", "warning", "info")
        worst = min(self._symptoms.values(), key=lambda s: (order.index(s.severity), s.step))
        more = f"   + {len(self._symptoms) - 1} more" if len(self._symptoms) > 1 else ""
        return f"seen     {safe(message_of(worst))}{more}"


def _bits(value: Any) -> str:
    return f"{value:+.1f} bits" if math.isfinite(value) else str(value)
