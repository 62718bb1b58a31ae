"""Black boxes of a run on disk: where they lie, and what their JSON says. Needs no torch.

A box is the state of a training just before the step at which it first failed: a folder
`blackbox/step-000057` (`step-000057.rank=3` of another rank) with `blackbox.json` and up to four
safetensors files. It appears whole, by a rename.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from gainstage.errors import RunFolderError

BLACKBOX_SCHEMA = "gainstage.blackbox/1"
BLACKBOX_INFO = "blackbox.json"

Part = Literal["saved", "batch", "optimizer", "model"]
PARTS: tuple[Part, ...] = get_args(Part)
"""Files of a box, in the order in which they are left out where a box would be too large."""

_NAME = re.compile(r"step-(\d+)(?:\.rank=(\d+))?")


@dataclass(frozen=True, slots=True)
class Box:
    """One black box, its JSON read and its tensors not."""

    path: Path
    step: int
    rank: int
    info: dict[str, Any]

    def file(self, part: Part) -> Path:
        """Return the path of one of its safetensors files, which need not be there."""
        return self.path / f"{part}.safetensors"

    def why_missing(self, part: Part) -> str | None:
        """Return in words why a file was left out, None where it was not."""
        for entry in self.info.get("left_out", []):
            if entry.get("part") == part:
                return str(entry.get("why"))
        return None


def box_folder(run: Path, step: int, rank: int) -> Path:
    """Return where the box of a step goes."""
    return run / "blackbox" / (f"step-{step:06d}" + (f".rank={rank}" if rank else ""))


def box_folders(run: Path) -> list[tuple[int, int, Path]]:
    """Return step, rank and path of each box of a run, the earliest step first."""
    folder = run / "blackbox"
    if not folder.is_dir():
        return []
    names = [(_NAME.fullmatch(each.name), each) for each in folder.iterdir()]
    return sorted((int(m[1]), int(m[2] or 0), path) for m, path in names if m is not None)


def find_box(run: Path, rank: int | None = None) -> Box:
    """Return the first black box of a run, or of one rank of it.

    Raises:
        RunFolderError: If there is no run, no box, or its JSON is damaged.
    """
    if not run.is_dir():
        raise RunFolderError(f"{str(run)!r} is no folder of a run")
    every = box_folders(run)
    boxes = [each for each in every if rank is None or each[1] == rank]
    if not boxes:
        has = ", ".join(str(each[1]) for each in every)
        hint = f"; there is one of rank {has}" if has else "; nothing failed while it was watched"
        of = "" if rank is None else f" of rank {rank}"
        raise RunFolderError(f"{str(run)!r} has no black box{of}{hint}")
    step, own_rank, path = boxes[0]
    return Box(path, step, own_rank, _read_info(path))


def _read_info(path: Path) -> dict[str, Any]:
    try:
        parsed: object = json.loads((path / BLACKBOX_INFO).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"the black box {str(path)!r} is damaged: {error}") from error
    info = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
    schema = info.get("schema")
    if schema != BLACKBOX_SCHEMA:
        raise RunFolderError(
            f"the black box {str(path)!r} is damaged: its schema must be {BLACKBOX_SCHEMA}, "
            f"got {schema!r}"
        )
    return info
