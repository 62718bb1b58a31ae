"""The past of one series in bounded memory: the last values, and medians of all before."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from gainstage.detect.series.trend import robust_baseline

CHUNK = 16
RECENT = 64
_MOST_CHUNKS = 256


@dataclass(slots=True)
class History:
    """A series as its detectors see it. Values are finite; the caller sees to that."""

    count: int = 0
    origin: float = 0.0
    """The first value, or the median of the first three."""
    level: float = 0.0
    """Median of the past: of all chunks but the latest, or the origin while there are none."""
    noise: float = 0.0
    """Robust standard deviation within the last values, as of the latest chunk."""
    recent: deque[float] = field(default_factory=lambda: deque[float](maxlen=RECENT))
    steps: deque[int] = field(default_factory=lambda: deque[int](maxlen=RECENT))
    chunks: list[float] = field(default_factory=list[float])
    """Medians of consecutive chunks; when there are too many, of twice as long ones."""
    _chunk: list[float] = field(default_factory=list[float])
    chunk_length: int = CHUNK
    """Steps of a chunk by now."""

    def push(self, step: int, value: float) -> None:
        """Take the value of the next step."""
        self.recent.append(value)
        self.steps.append(step)
        self.count += 1
        if self.count <= 3:
            self.origin = statistics.median(self.recent)
            self.level = self.origin
        self._chunk.append(value)
        if len(self._chunk) >= self.chunk_length:
            self.chunks.append(statistics.median(self._chunk))
            self._chunk.clear()
            self._close_chunk()

    def last(self, count: int) -> list[float]:
        """Return the last values, oldest first."""
        return list(islice(self.recent, max(0, len(self.recent) - count), None))

    @property
    def reference(self) -> float:
        """Level that growth is measured from: the past's, but not below the first chunk's.

        What has converged and then learns something new comes back to where it began.
        """
        return max(self.level, self.chunks[0]) if self.chunks else self.level

    def median(self, count: int) -> float:
        """Return the median of the last values."""
        return statistics.median(self.last(count))

    def _close_chunk(self) -> None:
        if len(self.chunks) > _MOST_CHUNKS:
            pairs = zip(self.chunks[::2], self.chunks[1::2], strict=False)
            self.chunks = [(one + other) / 2 for one, other in pairs]
            self.chunk_length *= 2
        before = self.chunks[:-1]
        self.level = statistics.median(before) if before else self.origin
        differences = [b - a for a, b in zip(self.recent, islice(self.recent, 1, None))]  # noqa: B905
        self.noise = robust_baseline(differences)[1] / 2**0.5 if differences else 0.0
