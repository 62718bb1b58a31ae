from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gainstage.store.reader import Run
from gainstage.treat.treatment import Spec


@dataclass(frozen=True, slots=True)
class Patch:
    diff: str | None
    instruction: str | None


def patch_of(specs: Sequence[Spec], run: Run, script: Path) -> Patch:
    return Patch(None, None)
