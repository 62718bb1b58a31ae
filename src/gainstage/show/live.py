"""A live panel in the last rows of the terminal, while the script prints above it.

The terminal itself keeps the two apart, by a scroll region (DECSTBM), as apt's progress bar does:
the script's streams are neither wrapped nor read, and its output goes where it always went.
"""

from __future__ import annotations

import math
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from gainstage.detect.trend import LARGEST, headroom_bits
from gainstage.records import SEVERITIES, Severity, StepBlock, Symptom, TensorInfo
from gainstage.show.sparkline import sparkline
from gainstage.show.terminal import is_utf, safe, shortened

ROWS = 6
LEAST_HEIGHT = 12
_LARGEST_SHOWN = 3
_BINS = 512
_RATE_OVER_S = 10.0
_PATIENCE_S = 1.0
_COLOUR = {"info": "36", "warning": "33", "critical": "1;31"}
_EIGHTHS = " ▏▎▍▌▋▊▉"


class History:
    """The whole course of a series in bounded memory: maxima of bins that widen as it grows."""

    def __init__(self) -> None:
        self._bins: NDArray[np.float64] = np.empty(0)
        self._rest: NDArray[np.float64] = np.empty(0)
        self._per = 1

    def extend(self, values: NDArray[np.float64]) -> None:
        """Append values; a bin that holds NaN is NaN, else one that holds inf is inf."""
        rest = np.concatenate([self._rest, values])
        whole = len(rest) // self._per * self._per
        maxima = rest[:whole].reshape(-1, self._per).max(axis=1)
        self._bins, self._rest = np.concatenate([self._bins, maxima]), rest[whole:]
        while len(self._bins) > _BINS:
            even = len(self._bins) // 2 * 2
            odd = self._bins[even:]  # a bin without a partner waits for it among the rest
            self._rest = np.concatenate([np.repeat(odd, self._per), self._rest])
            self._bins = self._bins[:even].reshape(-1, 2).max(axis=1)
            self._per *= 2

    def maxima(self) -> list[float]:
        """Return the maxima of the bins, oldest first, with what has not filled one yet."""
        last = [float(self._rest.max())] if len(self._rest) else []
        return [*self._bins.tolist(), *last]


class Seen:
    """What the panel shows of a run: its newest numbers, and the course of its norm."""

    def __init__(self, script: str) -> None:
        self.script = safe(script)
        self.step: int | None = None
        self.loss = math.nan
        self.has_loss = False
        self.bits = math.nan
        self.history = History()
        self.tensors: Sequence[TensorInfo] = ()
        self.norms: NDArray[np.float64] = np.empty(0)
        """The newest norm of each tensor; -1 where none was seen."""
        self.worst: Severity | None = None
        self.latest: Symptom | None = None
        self._times: deque[tuple[float, int]] = deque(maxlen=64)

    def take(
        self, tensors: Sequence[TensorInfo], block: StepBlock, symptoms: Sequence[Symptom]
    ) -> None:
        """Take in the newest rows and symptoms."""
        for symptom in symptoms:
            if self.worst is None or _rank(symptom.severity) > _rank(self.worst):
                self.worst = symptom.severity
            if self.latest is None or _newness(symptom) >= _newness(self.latest):
                self.latest = symptom
        self.tensors = tensors
        if not len(block):
            return
        self.step = int(block.step[-1])
        self._take_times(block)
        losses = np.flatnonzero(block.has_loss)
        if len(losses):
            self.loss, self.has_loss = float(block.loss[losses[-1]]), True
        self._take_norms(block)

    @property
    def steps_per_s(self) -> float:
        """Steps a second over about the last ten seconds of training; NaN for one step."""
        (first, begun), (last, ended) = self._times[0], self._times[-1]
        return (ended - begun) / (last - first) if last > first else math.nan

    def largest(self) -> list[tuple[TensorInfo, float]]:
        """Return the tensors with the largest newest norms: NaN first, then inf."""
        known = min(len(self.norms), len(self.tensors))
        order = np.argsort(-np.nan_to_num(self.norms[:known], nan=np.inf, posinf=1e300))
        chosen = [int(i) for i in order[:_LARGEST_SHOWN] if not self.norms[i] < 0]
        return [(self.tensors[i], float(self.norms[i])) for i in chosen]

    def _take_times(self, block: StepBlock) -> None:
        if not self._times:
            self._times.append((float(block.time[0]), int(block.step[0])))
        self._times.append((float(block.time[-1]), int(block.step[-1])))
        # Two entries always stay: a step may take longer than the span.
        while len(self._times) > 2 and self._times[-1][0] - self._times[1][0] > _RATE_OVER_S:
            self._times.popleft()

    def _take_norms(self, block: StepBlock) -> None:
        seen = block.present.any(axis=1) & (block.grad_norm != 0)
        bits = np.log2(block.grad_norm[seen])
        if len(bits):
            self.bits = float(bits[-1])
            self.history.extend(bits)
        steps, tensors = block.present.shape
        if tensors > len(self.norms):
            self.norms = np.concatenate([self.norms, np.full(tensors - len(self.norms), -1.0)])
        # Each tensor's newest row: the optimizers of a GAN step different tensors in turn.
        newest = np.where(block.present, np.arange(steps)[:, None], -1).max(axis=0)
        there = np.flatnonzero(newest >= 0)
        self.norms[there] = block.grad_norms[newest[there], there]


def panel(seen: Seen, width: int, *, ascii_only: bool = False, colour: bool = False) -> list[str]:
    """Return the panel's rows, each exactly `width` wide (not counting colours)."""
    rows = [_header(seen, width, ascii_only, colour), _norm_row(seen, width, ascii_only)]
    largest = seen.largest()
    longest = max((cell_len(safe(info.name)) for info, _ in largest), default=0)
    name_width = max(8, min(longest, width - 57, 44))
    rows += [_tensor_row(*each, name_width, width, ascii_only) for each in largest]
    rows += [""] * (ROWS - 1 - len(rows))
    rows.append(_symptom_row(seen, width))
    plain = [row.encode("ascii", "replace").decode() if ascii_only else row for row in rows[1:]]
    return [rows[0], *(set_cell_size(row, width) for row in plain)]


class LivePanel:
    """The panel on a terminal. Made by `open`; one writer thread updates it, anybody may close it.

    Each update is one write to a descriptor of the panel's own, which never blocks: on a terminal
    that the user has stopped (Ctrl-S), updates are left out and training goes on. The terminal has
    a single place to save its cursor in (DECSC), and the panel uses it; a script that does so too,
    across an update, is the one that would notice.
    """

    def __init__(self, descriptor: int, script: str, *, ascii_only: bool, colour: bool) -> None:
        """Take over a descriptor of a terminal, which `close` closes."""
        self._descriptor = descriptor
        self._seen = Seen(script)
        self._ascii_only = ascii_only
        self._colour = colour
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._size: os.terminal_size | None = None
        """The terminal's when the region was set; None while there is no region."""
        self._unwritten = b""
        self._open = True

    @classmethod
    def open(cls, script: str) -> LivePanel | None:
        """Return a panel, drawn; None, after one line that says why, where there can be none."""
        descriptor = _terminal()
        if descriptor is None:
            return _no_panel("neither standard error nor /dev/tty is a terminal that can be drawn")
        height = os.get_terminal_size(descriptor).lines
        if height < LEAST_HEIGHT:
            os.close(descriptor)
            return _no_panel(f"it takes {LEAST_HEIGHT} rows and the terminal has {height}")
        made = cls(
            descriptor,
            script,
            ascii_only=not is_utf(sys.stderr),
            colour=not os.environ.get("NO_COLOR"),
        )
        made._draw()
        return made

    def update(
        self, tensors: Sequence[TensorInfo], block: StepBlock, symptoms: Sequence[Symptom]
    ) -> None:
        """Take in the newest rows and symptoms, and draw.

        Args:
            tensors: All watched by now.
            block: The newest rows only.
            symptoms: Those new or changed; ones given before do no harm.
        """
        with self._lock:
            if self._open and self._process == os.getpid():
                self._seen.take(tensors, block, symptoms)
                self._draw()

    def close(self) -> None:
        """Give the rows back, the cursor staying where the script left it. Idempotent."""
        # A forked child has the panel, too, and perhaps the lock, but not the terminal's state.
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._open:
                return
            self._open = False
            try:
                self._write(self._released(os.get_terminal_size(self._descriptor)), wait=True)
            except OSError:
                self._size = None  # the terminal is gone: there is nothing to give back
            finally:
                os.close(self._descriptor)

    def _draw(self) -> None:
        try:
            size = os.get_terminal_size(self._descriptor)
            drawn = ""
            if size != self._size:
                drawn += self._released(size)
                self._size = size if size.lines >= LEAST_HEIGHT else None
                drawn += _reserved(size) if self._size else ""
            if self._size:
                # A column stays free: writing into the last one may scroll, or mark a wrap.
                width = max(size.columns - 1, 1)
                rows = panel(self._seen, width, ascii_only=self._ascii_only, colour=self._colour)
                drawn += _placed(rows, size)
            self._write(drawn)
        except OSError:
            # The terminal has gone away, which must not hurt the training.
            self._open = False
            os.close(self._descriptor)

    def _released(self, size: os.terminal_size) -> str:
        """Return what ends the region and clears the panel; nothing where there is none."""
        if self._size is None:
            return ""
        self_size, self._size = self._size, None
        if size == self_size:
            return f"\x1b7\x1b[r\x1b[{size.lines - ROWS + 1};1H\x1b[J\x1b8"
        # Resized: terminals differ in where rows go then, but the panel is below the cursor.
        return "\x1b7\x1b[r\x1b8\x1bD\x1b[A\x1b7\x1b[B\r\x1b[J\x1b8"

    def _write(self, text: str, *, wait: bool = False) -> None:
        """Write at once, or leave it out; what was begun is ended first, to cut no sequence."""
        data = self._unwritten + (b"" if self._unwritten and not wait else text.encode())
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                if not wait or not select.select([], [self._descriptor], [], _PATIENCE_S)[1]:
                    break
        self._unwritten = data


def _terminal() -> int | None:
    """Return a descriptor of the terminal's that is ours alone, None where there is none.

    Opened anew rather than duplicated, for a duplicate would make the script's own non-blocking.
    """
    if os.name != "posix" or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        name = os.ttyname(2) if os.isatty(2) else "/dev/tty"
        descriptor = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.get_terminal_size(descriptor)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _no_panel(why: str) -> None:
    print(f"gainstage: no live panel: {why}", file=sys.stderr, flush=True)


def _reserved(size: os.terminal_size) -> str:
    """Return what scrolls the script's output up out of the panel's rows and keeps it there."""
    room = "\x1bD" * ROWS + f"\x1b[{ROWS}A"  # IND keeps the column, as a newline would not
    return f"{room}\x1b7\x1b[1;{size.lines - ROWS}r\x1b8"


def _placed(rows: Sequence[str], size: os.terminal_size) -> str:
    top = size.lines - ROWS + 1
    lines = (f"\x1b[{top + i};1H{row}\x1b[K" for i, row in enumerate(rows))
    # The region is set each time: a script may have reset the terminal meanwhile.
    return f"\x1b7\x1b[1;{top - 1}r\x1b[0m{''.join(lines)}\x1b8"


def _header(seen: Seen, width: int, ascii_only: bool, colour: bool) -> str:
    rule = "-" if ascii_only else "─"
    said = f" {seen.worst} " if seen.worst else " no symptom "
    parts = ["gainstage", shortened(seen.script, max(8, width - 66))]
    if seen.step is None:
        parts.append("waiting for the first step")
    else:
        parts.append(f"step {seen.step:,}")
        rate = seen.steps_per_s
        if not math.isnan(rate):
            parts.append(f"{rate:,.{0 if rate >= 100 else 1 if rate >= 1 else 3}f} steps/s")
    left = f"{rule * 2} {'   '.join(parts)} "
    if ascii_only:
        left = left.encode("ascii", "replace").decode()
    room = width - len(said) - 2
    left = set_cell_size(left, room) if cell_len(left) > room else left
    left += rule * (room - cell_len(left))
    painted = f"\x1b[{_COLOUR[seen.worst]}m{said}\x1b[0m" if colour and seen.worst else said
    return f"{left}{painted}{rule * 2}" if room > 0 else set_cell_size(left, width)


def _norm_row(seen: Seen, width: int, ascii_only: bool) -> str:
    loss = f"{seen.loss:.5g}" if seen.has_loss else "not seen"
    label = "|g|" if ascii_only else "‖g‖"
    left = f" loss {loss:<12} {label} {_in_bits(seen.bits) if seen.step is not None else ''}  "
    room = min(width - len(left) - 1, 96)
    line = sparkline(seen.history.maxima(), room, ascii_only=ascii_only) if room >= 4 else ""
    return left + line


def _tensor_row(
    info: TensorInfo, norm: float, name_width: int, width: int, ascii_only: bool
) -> str:
    bits = math.log2(norm) if norm > 0 else norm if math.isnan(norm) else -math.inf
    left = 0.0 if math.isnan(norm) else headroom_bits(norm, info.dtype)
    name = set_cell_size(shortened(safe(info.name), name_width), name_width)
    said = f"{left:.0f} bits of {info.dtype} left" if left < math.inf else "zero"
    if not math.isfinite(norm):
        said = f"no {info.dtype} left"
    start = f" {name} {_in_bits(bits)}  "
    room = max(0, min(width - cell_len(start) - 30, 24))
    return f"{start}{_bar(_fill(bits, info.dtype), room, ascii_only)}  {said}"


def _fill(bits: float, dtype: str) -> float:
    """Return where a norm stands between the dtype's smallest (0) and largest (1) numbers."""
    if not math.isfinite(bits):
        return 0.0 if bits == -math.inf else 1.0
    largest = math.log2(LARGEST.get(dtype, LARGEST["float32"]))
    return min(max((bits + largest) / (2 * largest), 0.0), 1.0)


def _bar(fill: float, width: int, ascii_only: bool) -> str:
    if width < 3:
        return ""
    room = width - 2
    if ascii_only:
        return f"[{'#' * round(fill * room):<{room}}]"
    whole, eighths = divmod(round(fill * room * 8), 8)
    return f"▕{('█' * whole + (_EIGHTHS[eighths] if eighths else '')):<{room}}▏"


def _symptom_row(seen: Seen, width: int) -> str:
    if seen.latest is None:
        return ""
    said = f" {seen.latest.severity}: {safe(seen.latest.message)}"
    return said if cell_len(said) <= width else f"{set_cell_size(said, width - 1)}…"


def _in_bits(bits: float) -> str:
    said = f"{bits:+.1f} bits" if math.isfinite(bits) else _NOT_FINITE.get(bits, "NaN")
    return f"{said:>11}"


_NOT_FINITE = {math.inf: "inf", -math.inf: "0"}


def _rank(severity: Severity) -> int:
    return SEVERITIES.index(severity)


def _newness(symptom: Symptom) -> int:
    return int(symptom.evidence.get("last_step", symptom.step))
