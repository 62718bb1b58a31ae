"""Treatments as a unified diff of the user's own source; an instruction where none is safe."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import Edits, NoSafeEditError, ScriptSource, read_source
from gainstage.prescribe.patch.optimizers import is_of
from gainstage.prescribe.patch.treatments import edit
from gainstage.treat.spec import Spec


@dataclass(frozen=True, slots=True)
class Patch:
    """How a person gets the treatment into the script: by one of the two."""

    diff: str | None = None
    instruction: str | None = None
    content: bytes | None = None
    """The script's file as the diff makes it."""
    final_loss: float | None = None
    """At which that ended when it was run."""


def patch_of(
    specs: Sequence[Spec], record: RankRecord, details: Sequence[dict[str, Any]], path: Path
) -> Patch:
    """Return treatments as a diff of a script.

    Args:
        specs: The treatments, in the order in which they acted.
        record: Of the untreated run, which knows the lines.
        details: For each, what its trial's journal says that it has done.
        path: The script.

    Returns:
        The diff, against the current folder; where an edit would not be safe, an instruction that
        says why.
    """
    try:
        source = read_source(path)
        changed = [Path(str(s.settings["source"])) for s in specs if s.kind.changes_source]
        start = replace(read_source(changed[-1]), path=path) if changed else source
        if changed:
            record = _moved(record, source, start)
        edits = Edits(start)
        for spec, done in zip(specs, details, strict=True):
            if not spec.kind.changes_source:
                edit(edits, spec, record, done)
        text = _with_torch(start, edits)
        return Patch(diff=_diff(source, text), content=text.encode(source.module.encoding))
    except NoSafeEditError as error:
        return by_hand(specs, str(error))


def by_hand(specs: Sequence[Spec], why: str) -> Patch:
    """Return treatments as an instruction, with the reason why there is no diff."""
    steps = "; ".join(spec.kind.by_hand.format(**spec.values()) for spec in specs)
    return Patch(instruction=f"{steps} (no diff: {why})")


def _moved(record: RankRecord, before: ScriptSource, after: ScriptSource) -> RankRecord:
    """Return a record whose observations have the lines that these are in a changed text."""
    lines = (before.text.splitlines(), after.text.splitlines())
    same = difflib.SequenceMatcher(None, *lines, autojunk=False).get_matching_blocks()
    place = {at.a + i + 1: at.b + i + 1 for at in same for i in range(at.size)}
    moved = [
        replace(seen, line=place.get(seen.line, seen.line))
        if seen.line is not None and is_of(before, seen.file)
        else seen
        for seen in record.observations
    ]
    return replace(record, observations=tuple(moved))


def _with_torch(source: ScriptSource, edits: Edits) -> str:
    """Return the edited text, having made sure that `torch` means torch where it was put in."""
    text = edits.apply()
    if text.count("torch.") > source.text.count("torch.") and not any(
        line.split("#")[0].strip() in ("import torch",) or line.startswith("import torch,")
        for line in source.text.splitlines()
    ):
        raise NoSafeEditError(f"{source.path.name} does not import torch by its name")
    return text


def _diff(source: ScriptSource, changed: str) -> str:
    if changed == source.text:
        raise NoSafeEditError("the source has it already")
    name = os.path.relpath(source.path).replace(os.sep, "/")
    if name.startswith(".."):
        name = source.path.name
    lines = difflib.unified_diff(
        source.text.splitlines(keepends=True),
        changed.splitlines(keepends=True),
        f"a/{name}",
        f"b/{name}",
    )
    marked = (
        each if each.endswith("\n") else f"{each}\n\\ No newline at end of file\n" for each in lines
    )
    return "".join(marked)
