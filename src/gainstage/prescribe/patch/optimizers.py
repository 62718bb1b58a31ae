"""Where a script makes its optimizers and steps them, as the record saw it, in its source."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst
from libcst import matchers as m

from gainstage.facts.observation import OptimizerMade, OptimizerSettings, OptimizerStepped
from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import Line, NoSafeEditError, ScriptSource

_PARAMETERS = m.Call(m.Attribute(m.Name() | m.Attribute(), m.Name("parameters")), args=[])


@dataclass(frozen=True)
class Made:
    """The construction of an optimizer."""

    call: cst.Call
    line: Line | None
    """None where it shares a line with the head of its block, so that nothing fits beside it."""
    target: str | None
    """The code of what it is assigned to."""
    settings: OptimizerSettings
    """Those that it had then, defaults included."""

    @property
    def model(self) -> str | None:
        """Return `model` where the parameters are `model.parameters()`."""
        first = next((each for each in self.call.args if each.keyword is None), None)
        if first is None or not m.matches(first.value, _PARAMETERS):
            return None
        call = cst.ensure_type(first.value, cst.Call)
        return cst.Module([]).code_for_node(cst.ensure_type(call.func, cst.Attribute).value)


@dataclass(frozen=True)
class Stepped:
    """A line that steps an optimizer."""

    line: Line
    optimizer: str
    """Its code."""
    scaler: str | None
    """The code of the `GradScaler` that steps it."""


def optimizers_of(source: ScriptSource, record: RankRecord) -> list[Made]:
    """Return the constructions that the record saw in this file.

    Raises:
        NoSafeEditError: If there is none, or one cannot be found.
    """
    found: list[Made] = []
    for seen in record.observed(OptimizerMade):
        if not is_of(source, seen.file):
            continue
        call = _construction(source, seen.line, seen.evidence.class_name)
        line = None if call is None else source.holder(call, cst.SimpleStatementLine)
        if call is None:
            raise NoSafeEditError(f"line {seen.line} makes an optimizer in a way not understood")
        if all(each.call is not call for each in found):
            settings = seen.evidence.settings
            found.append(Made(call, line, _target(line, call, source), settings))
    if not found:
        raise NoSafeEditError(f"{source.path.name} makes no optimizer itself")
    return found


def _construction(source: ScriptSource, line: int | None, class_name: str) -> cst.Call | None:
    """Return the call of a line that makes an optimizer: of its class, or of what stands for it.

    `kinds[name](model.parameters(), lr=rate)` is such, where no other call of the line is alike.
    """
    calls = source.at(line, cst.Call)
    named = [call for call in calls if _last_name(call.func) == class_name]
    if named:
        return named[0]
    alike = [
        call
        for call in calls
        if any(each.keyword is not None and each.keyword.value == "lr" for each in call.args)
        or (bool(call.args) and m.matches(call.args[0].value, _PARAMETERS))
    ]
    return alike[0] if len(alike) == 1 else None


def steps_of(source: ScriptSource, record: RankRecord, made: list[Made]) -> list[Stepped]:
    """Return all lines of this file that step an optimizer: the one seen, and those alike.

    Raises:
        NoSafeEditError: If the record saw none here, or one has a form that edits do not know.
    """
    seen = record.first(OptimizerStepped)
    if seen is None or not is_of(source, seen.file):
        raise NoSafeEditError(f"no step of an optimizer was seen in {source.path.name}")
    found: list[Stepped] = []
    targets = {each.target for each in made}
    for line in source.all(cst.SimpleStatementLine):
        here = seen.line in source.lines_of(line)
        stepped = _stepped(line, source)
        if stepped is None:
            if here:
                raise NoSafeEditError(f"line {seen.line} steps in a way that is not `x.step()`")
            continue
        if here or stepped.optimizer in targets:
            found.append(stepped)
    if not any(seen.line in source.lines_of(each.line) for each in found):
        raise NoSafeEditError(f"line {seen.line} steps within another statement")
    return found


def parameters_code(source: ScriptSource, stepped: Stepped, made: list[Made]) -> str:
    """Return code for the parameters that a line steps, as seen from that line."""
    for each in made:
        if each.target == stepped.optimizer and each.model is not None:
            # Only what the same scope binds is surely still the same model there.
            outer = source.holder(each.call, cst.FunctionDef)
            if outer is source.holder(stepped.line, cst.FunctionDef):
                return f"{each.model}.parameters()"
    return f'[p for group in {stepped.optimizer}.param_groups for p in group["params"]]'


def _stepped(line: Line, source: ScriptSource) -> Stepped | None:
    pattern = m.Expr(m.Call(m.Attribute(attr=m.Name("step"))))
    if len(line.body) != 1 or not m.matches(line.body[0], pattern):
        return None
    call = cst.ensure_type(cst.ensure_type(line.body[0], cst.Expr).value, cst.Call)
    owner = source.code(cst.ensure_type(call.func, cst.Attribute).value)
    if not call.args:
        return Stepped(line, owner, None)
    only = call.args[0]
    if len(call.args) == 1 and only.keyword is None and not only.star and _is_scaler(owner):
        return Stepped(line, source.code(only.value), owner)
    return None


def _is_scaler(owner: str) -> bool:
    return "scaler" in owner.lower()


def is_of(source: ScriptSource, file: str | None) -> bool:
    """Tell whether a file that the record names is this one."""
    return file is not None and source.path.resolve() == source.path.__class__(file).resolve()


def _last_name(node: cst.BaseExpression) -> str | None:
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else None


def _target(line: Line | None, call: cst.Call, source: ScriptSource) -> str | None:
    statement = None if line is None else line.body[0]
    if isinstance(statement, cst.Assign) and statement.value is call:
        return source.code(statement.targets[0].target)
    if isinstance(statement, cst.AnnAssign) and statement.value is call:
        return source.code(statement.target)
    return None
