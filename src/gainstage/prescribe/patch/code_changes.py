"""What a diagnosis would have a person change in the code, written down so that it can be tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst import matchers as m

from gainstage.diagnose.cause_kind import CodeChangeId
from gainstage.diagnose.causes import CAUSE
from gainstage.diagnose.evidence.weights import (
    MovedBeyondUpdates,
    WeightsGrowAlike,
    weight_evidence,
)
from gainstage.facts.fault import Fault
from gainstage.facts.observation import (
    ClipNothing,
    ClipScaled,
    GradientsNotZeroed,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import (
    Edits,
    Line,
    NoSafeEditError,
    ScriptSource,
    grouped,
    read_source,
)
from gainstage.prescribe.patch.optimizers import Made, is_of, optimizers_of, steps_of
from gainstage.prescribe.patch.rates import set_to

_DIVISIONS = ("div", "true_divide", "divide")
_ADDED = (1e-8, 1e-2)
"""To a divisor: what only keeps it from 0, and what also bounds the quotient of a small spread."""
_PUSHED = (MovedBeyondUpdates, WeightsGrowAlike)
_IN_PLACE = ("mul_", "div_", "add_", "sub_", "copy_", "lerp_", "addcmul_", "addcdiv_")
_HALVES = ("float16", "half", "bfloat16")
_SMALLEST_CONFIDENCE = 0.1


@dataclass(frozen=True, slots=True)
class ChangedScript:
    """A change of a script."""

    what: str
    """In words, with the line."""
    content: bytes
    """Of the whole file, changed."""


def code_changes(path: Path, record: RankRecord, causes: dict[str, float]) -> list[ChangedScript]:
    """Return the changes of a script's own file that its diagnosis asks for, where they are known.

    Whether one is right is for a trial to say.

    Args:
        path: The script.
        record: Of the run as it is.
        causes: Confidence by cause.
    """
    try:
        source = read_source(path)
    except NoSafeEditError:
        return []
    likely = (CAUSE[cause] for cause, share in causes.items() if share >= _SMALLEST_CONFIDENCE)
    changes: dict[CodeChangeId, None] = {c: None for cause in likely for c in cause.code_changes}
    found: list[ChangedScript] = []
    for change in changes:
        for what, edit in _edits(change, source, record):
            edits = Edits(source)
            try:
                edit(edits)
            except NoSafeEditError:
                continue
            content = edits.apply().encode(source.module.encoding)
            known = (each.content for each in found)
            if content not in (source.text.encode(source.module.encoding), *known):
                found.append(ChangedScript(what, content))
    return found


_Edit = tuple[str, Callable[[Edits], None]]


def _edits(change: CodeChangeId, source: ScriptSource, record: RankRecord) -> Iterator[_Edit]:
    fault = record.fault
    match change:
        case "guard-operation":
            if fault is not None and is_of(source, fault.site.file):
                yield from _of_operation(fault)
        case "float32":
            yield "float32 where the script asks for half precision", _to_float32
        case "zero-grad":
            if record.first(GradientsNotZeroed) is not None:
                yield "zero_grad after each step", lambda edits: _zero_grad(edits, record)
        case "clip-a-list":
            nothing = record.first(ClipNothing)
            if nothing is not None and is_of(source, nothing.file):
                what = f"a list for the iterator that line {nothing.line} clips by"
                yield what, lambda edits: _keep_listed(edits, nothing.line)
        case "unscale-first":
            scaled = record.first(ClipScaled)
            if scaled is not None and is_of(source, scaled.file):
                what = f"the loss scale taken out before the clip, line {scaled.line}"
                yield what, lambda edits: _unscale(edits, record, scaled.line)
        case "optimizer-settings":
            yield (
                "settings within their range",
                lambda edits: _settings(edits, optimizers_of(source, record)),
            )
        case "add-parameters":
            if record.first(ParametersUnstepped) is not None:
                yield "what the optimizer lacks added to it", lambda edits: _hold(edits, record)
        case "take-out-writes":
            if any(isinstance(piece, _PUSHED) for piece in weight_evidence(record)):
                for line in _writes(source):
                    yield (
                        f"line {source.lines_of(line)[0]} taken out: {source.code(line).strip()}",
                        lambda edits, line=line: _take_out(edits, line),
                    )


def _of_operation(fault: Fault) -> Iterator[_Edit]:
    op, line, bounds = fault.site.op, fault.site.line, fault.evidence.clamp
    if fault.evidence.hazard == "divisor":
        for added in _ADDED:
            yield (
                f"{added:g} added to the divisor, line {line}",
                lambda edits, added=added: _add_to_divisor(edits, line, added),
            )
    elif bounds is not None:
        yield (
            f"{op} of its argument clamped, ({bounds}), line {line}",
            lambda edits: _clamp_argument(edits, fault, bounds),
        )


def _clamp_argument(edits: Edits, fault: Fault, bounds: str) -> None:
    """Clamp what goes into `torch.op(x)`, `x.op()` or `x ** y`."""
    source, op, line = edits.source, fault.site.op, fault.site.line
    for call in source.at(line, cst.Call):
        if not m.matches(call.func, m.Attribute(attr=m.Name(op))):
            continue
        owner = cst.ensure_type(call.func, cst.Attribute).value
        # `x.pow(2)` has an argument, too: of functions the owner is a module.
        is_function = bool(call.args) and m.matches(owner, m.Name("torch") | m.Name("F"))
        _replace(edits, call.args[0].value if is_function else owner, f".clamp({bounds})")
    if fault.evidence.hazard == "power":
        for power in source.at(line, cst.BinaryOperation):
            if isinstance(power.operator, cst.Power):
                _replace(edits, power.left, f".clamp({bounds})")


def _add_to_divisor(edits: Edits, line: int | None, added: float) -> None:
    source = edits.source
    for each in source.at(line, cst.BinaryOperation):
        if isinstance(each.operator, cst.Divide) and not isinstance(
            each.right, cst.Integer | cst.Float
        ):
            summed = f"({source.code(grouped(each.right))} + {added:g})"
            edits.replaced[each.right] = cst.parse_expression(summed)
    for call in source.at(line, cst.Call):
        if m.matches(call.func, m.Attribute(attr=m.OneOf(*map(m.Name, _DIVISIONS)))) and call.args:
            divisor = call.args[-1].value
            summed = f"{source.code(grouped(divisor))} + {added:g}"
            edits.replaced[divisor] = cst.parse_expression(summed)


def _replace(edits: Edits, node: cst.BaseExpression, suffix: str) -> None:
    code = edits.source.code(grouped(node))
    edits.replaced[node] = cst.parse_expression(code + suffix)


def _to_float32(edits: Edits) -> None:
    """Let the script's own casts be to float32; what autocast does is not its code's to say."""
    source = edits.source
    for each in source.all(cst.Attribute):
        call = source.parent(each)
        is_cast = isinstance(call, cst.Call) and call.func is each and not call.args
        if each.attr.value in ("half", "bfloat16") and is_cast:
            edits.replaced[each] = each.with_changes(attr=cst.Name("float"))
        elif m.matches(each, m.Attribute(m.Name("torch"), m.OneOf(*map(m.Name, _HALVES)))):
            call = source.holder(each, cst.Call)
            if call is None or "autocast" not in source.code(call.func):
                edits.replaced[each] = each.with_changes(attr=cst.Name("float32"))


def _zero_grad(edits: Edits, record: RankRecord) -> None:
    made = optimizers_of(edits.source, record)
    for each in steps_of(edits.source, record, made):
        edits.put_after(each.line, f"{each.optimizer}.zero_grad()")


def _keep_listed(edits: Edits, line: int | None) -> None:
    """Make a list of what a clipping call is given, where that is bound to an iterator."""
    source = edits.source
    for call in source.at(line, cst.Call):
        name = source.code(call.func).rpartition(".")[2]
        if name not in ("clip_grad_norm_", "clip_grad_value_") or not call.args:
            continue
        given = source.code(call.args[0].value)
        for each in source.all(cst.Assign):
            is_it = any(source.code(target.target) == given for target in each.targets)
            if is_it and isinstance(each.value, cst.Call | cst.GeneratorExp):
                edits.replaced[each.value] = cst.Call(cst.Name("list"), [cst.Arg(each.value)])


def _unscale(edits: Edits, record: RankRecord, line: int | None) -> None:
    """Take the loss scale out of the gradients before they are clipped."""
    source = edits.source
    calls = source.at(line, cst.Call)
    before = None if not calls else source.holder(calls[0], cst.SimpleStatementLine)
    for each in steps_of(source, record, optimizers_of(source, record)):
        if before is not None and each.scaler is not None:
            edits.put_before(before, f"{each.scaler}.unscale_({each.optimizer})")


def _hold(edits: Edits, record: RankRecord) -> None:
    """Give the optimizer, before it steps, the parameters that the model has got since."""
    made = optimizers_of(edits.source, record)
    if len(made) != 1:
        raise NoSafeEditError("several optimizers: which one is to hold them is not known")
    held, new = edits.source.unused("held", "new")
    for each in steps_of(edits.source, record, made):
        model = _model_at(edits.source, made[0], each.line)
        groups = f'{each.optimizer}.param_groups for p in group["params"]'
        edits.put_before(
            each.line,
            f"{held} = {{id(p) for group in {groups}}}\n"
            f"{new} = [p for p in {model}.parameters() if id(p) not in {held}]\n"
            f'if {new}:\n    {each.optimizer}.add_param_group({{"params": {new}}})',
        )


def _model_at(source: ScriptSource, made: Made, line: Line) -> str:
    """Return what the optimizer's model is called in another line: the same, or an attribute."""
    if made.model is not None and source.same_scope(made.call, line):
        return made.model
    function = source.holder(made.call, cst.FunctionDef)
    for assign in source.all(cst.Assign):
        is_there = source.holder(assign, cst.FunctionDef) is function
        target = source.code(assign.targets[0].target)
        if is_there and source.code(assign.value) == made.model and target.startswith("self."):
            return target
    raise NoSafeEditError("the optimizer's model has no name where it steps")


def _writes(source: ScriptSource) -> Iterator[Line]:
    """Yield the lines that write to tensors in place, out of autograd's sight."""
    for line in source.all(Line):
        if len(line.body) != 1 or "grad" in source.code(line).replace("no_grad", ""):
            continue
        statement = line.body[0]
        if m.matches(statement, m.Expr(m.Call(m.Attribute()))):
            call = cst.ensure_type(cst.ensure_type(statement, cst.Expr).value, cst.Call)
            written = cst.ensure_type(call.func, cst.Attribute)
            is_write = written.attr.value in _IN_PLACE
            target = source.code(written.value)
        elif isinstance(statement, cst.AugAssign):
            is_write, target = True, source.code(statement.target)
        else:
            continue
        if is_write and (".data" in target or _is_untracked(source, line)):
            yield line


def _is_untracked(source: ScriptSource, line: Line) -> bool:
    """Tell whether a line stands within `with torch.no_grad()`."""
    block = source.holder(line, cst.With)
    while block is not None:
        if any("no_grad" in source.code(each.item) for each in block.items):
            return True
        block = source.holder(block, cst.With)
    return False


def _take_out(edits: Edits, line: Line) -> None:
    block = edits.source.parent(line)
    if isinstance(block, cst.IndentedBlock) and len(block.body) == 1:
        edits.put_before(line, "pass")
    edits.removed.append(line)


def _settings(edits: Edits, made: list[Made]) -> None:
    """Give settings for which no update shrinks the values that they have by default."""
    for each in made:
        momentum, decay = each.settings.momentum, each.settings.weight_decay
        if momentum is not None and momentum >= 1:
            set_to(edits, each, "momentum", "0.9", position=2)
        if decay is not None and decay < 0:
            set_to(edits, each, "weight_decay", f"{-decay!r}")
        if any(beta is not None and beta >= 1 for beta in each.settings.betas or ()):
            set_to(edits, each, "betas", "(0.9, 0.999)", position=2)
        if each.settings.maximize:
            set_to(edits, each, "maximize", "False")
