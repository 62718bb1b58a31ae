"""Edits at the line that steps: clipping before it, a guard around it, a warm-up after it."""

from __future__ import annotations

import libcst as cst
from libcst import matchers as m

from gainstage.facts.observation import ClipAfterStep
from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import Edits, Line, NoSafeEditError, ScriptSource
from gainstage.prescribe.patch.optimizers import Made, Stepped, parameters_code
from gainstage.prescribe.patch.rates import sets_rates

_SCHEDULES = ("lr_scheduler", "LRScheduler", "LambdaLR")


def clip(
    edits: Edits, record: RankRecord, made: list[Made], steps: list[Stepped], call: str
) -> None:
    """Clip before every step, after unscaling where a loss scaler steps.

    Args:
        edits: Take the change.
        record: Of the baseline, to know whether the script clips when it is too late.
        made: The optimizers.
        steps: The lines that step.
        call: torch's function with `{}` for the parameters, such as `clip_grad_norm_({}, 1.0)`.
    """
    late = record.first(ClipAfterStep)
    for each in steps:
        following = [] if late is None else _same_block(edits.source, each.line)
        for line in following:
            if late is not None and late.line in edits.source.lines_of(line) and _is_clip(line):
                edits.removed.append(line)
        if each.scaler is not None and not _unscales(edits.source, each):
            edits.put_before(each.line, f"{each.scaler}.unscale_({each.optimizer})")
        parameters = parameters_code(edits.source, each, made)
        edits.put_before(each.line, f"torch.nn.utils.{call.format(parameters)}")


def skip_nonfinite(edits: Edits, made: list[Made], steps: list[Stepped]) -> None:
    """Step only where every gradient is finite.

    Raises:
        NoSafeEditError: If a `GradScaler` steps, which looks at that itself.
    """
    for each in steps:
        if each.scaler is not None:
            raise NoSafeEditError(f"{each.scaler} leaves such steps out already")
        parameters = parameters_code(edits.source, each, made)
        if parameters.startswith("["):
            loop = f'for group in {each.optimizer}.param_groups for p in group["params"]'
        else:
            loop = f"for p in {parameters}"
        edits.around[each.line] = f"if all(p.grad is None or p.grad.isfinite().all() {loop})"


def warm_up(edits: Edits, made: list[Made], steps: list[Stepped], length: int) -> None:
    """Raise the learning rate linearly by a `LambdaLR`, beside no other schedule.

    Raises:
        NoSafeEditError: If there are several optimizers, or something else sets the rate.
    """
    source = edits.source
    line = made[0].line
    if len(made) > 1 or made[0].target is None or line is None:
        raise NoSafeEditError("the warm-up's place among several optimizers is the script's choice")
    if any(word in source.text for word in _SCHEDULES) or sets_rates(source):
        raise NoSafeEditError(
            f"multiply the rate of the script's own schedule by min(1, (step + 1) / {length})"
        )
    only = made[0]
    owner, dot, _ = (only.target or "").rpartition(".")
    name = f"{owner}{dot}warm_up"
    for each in steps:
        if each.optimizer != only.target or not (dot or source.same_scope(line, each.line)):
            raise NoSafeEditError("the optimizer is stepped where it has another name")
        edits.put_after(each.line, f"{name}.step()")
    edits.put_after(
        line,
        f"{name} = torch.optim.lr_scheduler.LambdaLR(\n"
        f"    {only.target}, lambda step: min(1.0, (step + 1) / {length})\n"
        ")",
    )


def _same_block(source: ScriptSource, line: Line) -> list[Line]:
    """Return the simple lines that follow one in its block."""
    block = source.parent(line)
    body = list(block.body) if isinstance(block, cst.IndentedBlock | cst.Module) else []
    at = next((i for i, each in enumerate(body) if each is line), len(body))
    return [each for each in body[at + 1 :] if isinstance(each, cst.SimpleStatementLine)]


def _is_clip(line: Line) -> bool:
    names = m.Name("clip_grad_norm_") | m.Name("clip_grad_value_")
    call = m.Expr(m.Call(names | m.Attribute(attr=names)))
    return len(line.body) == 1 and m.matches(line.body[0], call)


def _unscales(source: ScriptSource, stepped: Stepped) -> bool:
    """Tell whether the script unscales before it steps."""
    function = source.holder(stepped.line, cst.FunctionDef) or source.module
    unscale = m.Call(m.Attribute(attr=m.Name("unscale_")))
    return bool(m.findall(function, unscale))
