"""The sampled norms of all weights in bounded memory, in bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import WeightBlock

_MOST = 128


@dataclass(slots=True)
class WeightHistory:
    """Samples of all norms in bits; when there are too many, every second is dropped."""

    steps: list[int] = field(default_factory=list[int])
    bits: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    """By sample, the norm of each tensor; NaN where it has none."""
    total: list[float] = field(default_factory=list[float])
    """By sample, the norm of all weights together; NaN where no norm is known."""
    every: int = 1
    seen: int = 0

    @property
    def latest(self) -> float:
        """Norm of all weights at the latest sample that was kept; NaN before there is one."""
        return self.total[-1] if self.total else math.nan

    def push(self, sample: WeightBlock) -> bool:
        """Take one sample; return whether it is kept."""
        if len(self.steps) >= _MOST:
            self.steps, self.bits = self.steps[1::2], self.bits[1::2]
            self.total = self.total[1::2]
            self.every *= 2
        self.seen += 1
        if self.seen % self.every:
            return False
        norms = np.where(sample.present[0], sample.weight_norms[0], np.nan).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.bits.append(np.log2(norms))
            known = norms[~np.isnan(norms)]
            self.total.append(float(np.log2(np.linalg.norm(known))) if len(known) else math.nan)
        self.steps.append(int(sample.step[0]))
        return True
