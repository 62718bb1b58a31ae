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
from gainstage.prescribe.patch.models import fp32_module, insert_norm, reinit
from gainstage.prescribe.patch.optimizers import Made, Stepped, is_of, optimizers_of, steps_of
from gainstage.prescribe.patch.rates import lower_lr, raise_eps
from gainstage.prescribe.patch.steps import clip, skip_nonfinite, warm_up
from gainstage.treat.treatment import Spec

_BY_HAND = {
    "clip-global-norm": "before the optimizer's step, call "
    "torch.nn.utils.clip_grad_norm_(model.parameters(), {max_norm})",
    "clip-value": "before the optimizer's step, call "
    "torch.nn.utils.clip_grad_value_(model.parameters(), {value})",
    "clip-adaptive": "before the optimizer's step, call clip_adaptive_ of gainstage.treat.clip "
    "or its like for kind={kind}",
    "lower-lr": "multiply the learning rate by {factor}",
    "warm-up": "raise the learning rate linearly over the first {steps:g} steps",
    "raise-eps": "give the optimizer eps={eps}",
    "reinit": "initialise the weights by kind={kind} where the layers are made",
    "insert-norm": "put a {kind} norm behind the modules at={at}",
    "skip-nonfinite": "step only if all gradients are finite",
    "fp32-module": "call module {module} in float32, outside of autocast",
    "code-change": "take the text of {source}",
    "scale-loss": "multiply the loss by {factor} before backward, and divide the gradients by it",
}


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
        changed = [Path(str(s.settings["source"])) for s in specs if s.remedy == "code-change"]
        start = replace(read_source(changed[-1]), path=path) if changed else source
        if changed:
            record = _moved(record, source, start)
        edits = Edits(start)
        for spec, done in zip(specs, details, strict=True):
            if spec.remedy != "code-change":
                _edit(edits, spec, record, done)
        text = _with_torch(start, edits)
        return Patch(diff=_diff(source, text), content=text.encode(source.module.encoding))
    except NoSafeEditError as error:
        return by_hand(specs, str(error))


def by_hand(specs: Sequence[Spec], why: str) -> Patch:
    """Return treatments as an instruction, with the reason why there is no diff."""
    steps = "; ".join(_BY_HAND[each.remedy].format(**each.values()) for each in specs)
    return Patch(instruction=f"{steps} (no diff: {why})")


def _edit(edits: Edits, spec: Spec, record: RankRecord, done: dict[str, Any]) -> None:
    if "from" in spec.settings or "until" in spec.settings:
        raise NoSafeEditError("the treatment was for some steps only")
    source, values = edits.source, spec.values()
    match spec.remedy:
        case "fp32-module":
            fp32_module(edits, str(values["module"]))
        case "lower-lr" if values["after"] == "start":
            lower_lr(edits, optimizers_of(source, record), float(values["factor"]))
        case "raise-eps":
            raise_eps(edits, optimizers_of(source, record), float(values["eps"]))
        case "reinit":
            made = optimizers_of(source, record)
            reinit(edits, record, made, done, int(float(values["seed"])))
        case "insert-norm":
            made = optimizers_of(source, record)
            insert_norm(edits, made, done, str(values["kind"]), float(values["eps"]))
        case "clip-global-norm" if values["per"] == "all":
            made, steps = _places(source, record)
            kind = "" if values["norm_type"] == 2.0 else f", norm_type={values['norm_type']}"
            call = f"clip_grad_norm_({{}}, max_norm={_plain(values['max_norm'])}{kind})"
            clip(edits, record, made, steps, call)
        case "clip-value":
            made, steps = _places(source, record)
            clip(edits, record, made, steps, f"clip_grad_value_({{}}, {_plain(values['value'])})")
        case "skip-nonfinite":
            skip_nonfinite(edits, *_places(source, record))
        case "warm-up":
            warm_up(edits, *_places(source, record), int(float(values["steps"])))
        case _:
            raise NoSafeEditError(f"{spec.remedy} with these settings needs more than an edit")


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


def _places(source: ScriptSource, record: RankRecord) -> tuple[list[Made], list[Stepped]]:
    made = optimizers_of(source, record)
    return made, steps_of(source, record, made)


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


def _plain(value: float | str) -> str:
    return repr(float(value))
