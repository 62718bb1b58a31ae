"""Edits of an optimizer's settings: a lower learning rate, a higher eps."""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst
from libcst import matchers as m

from gainstage.prescribe.patch.edits import Edits, NoSafeEditError, ScriptSource, grouped
from gainstage.prescribe.patch.optimizers import Made

_SHORT = 10
"""Characters of a number that is written as such; 0.005000000000000001 is left a product."""
_Change = Callable[[cst.BaseExpression], cst.BaseExpression]
_ABSOLUTE = ("OneCycleLR", "CyclicLR")
"""Schedules that forget the optimizer's own rate."""


def _is_lr(text: str) -> bool:
    return text.strip("'\"") == "lr"


_LR = m.SimpleString(value=m.MatchIfTrue(_is_lr))


def lower_lr(edits: Edits, made: list[Made], factor: float) -> None:
    """Multiply the learning rates where they are given.

    Raises:
        NoSafeEditError: If a schedule sets its own, or groups may bring theirs.
    """
    for schedule in _ABSOLUTE:
        if schedule in edits.source.text:
            raise NoSafeEditError(f"{schedule} sets rates of its own: multiply its max_lr instead")
    for each in made:
        _check_groups(each, edits.source)
        _set(edits, each, "lr", position=1, change=lambda old: _times(old, factor))
    for rate in _assigned_rates(edits.source):
        edits.replaced[rate] = _times(rate, factor)


def raise_eps(edits: Edits, made: list[Made], eps: float) -> None:
    """Let no optimizer's eps be below a least one.

    Raises:
        NoSafeEditError: If eps stands where a change of it cannot be written.
    """
    for each in made:
        if each.settings.eps is not None:
            _set(edits, each, "eps", position=None, change=lambda old: _at_least(old, eps))


def set_to(edits: Edits, made: Made, name: str, code: str, *, position: int | None = None) -> None:
    """Give a setting that the script gives another value.

    Args:
        edits: Take the change.
        made: The optimizer.
        name: Of the setting.
        code: Of the value.
        position: Of the argument where it has no name.

    Raises:
        NoSafeEditError: If it does not stand where a change of it can be written.
    """
    _set(edits, made, name, position=position, change=lambda _: cst.parse_expression(code))


def _set(edits: Edits, made: Made, name: str, *, position: int | None, change: _Change) -> None:
    plain = [each for each in made.call.args if each.keyword is None]
    if any(each.star for each in made.call.args):
        raise NoSafeEditError(f"the optimizer's {name} may be among its starred arguments")
    for each in made.call.args:
        if each.keyword is not None and each.keyword.value == name:
            edits.replaced[each.value] = change(each.value)
            return
    if position is not None and len(plain) > position:
        edits.replaced[plain[position].value] = change(plain[position].value)
        return
    if position is None and len(plain) > 2:
        raise NoSafeEditError(f"the optimizer's {name} may be among its positional arguments")
    default = getattr(made.settings, name)
    if not isinstance(default, (int, float)):
        raise NoSafeEditError(f"the optimizer's {name} is not known")
    edits.add_keyword(made.call, name, change(_number(float(default))))


def _check_groups(made: Made, source: ScriptSource) -> None:
    """Make sure that the rate given is that of all groups."""
    first = next((each.value for each in made.call.args if each.keyword is None), None)
    if first is None:
        return
    if m.findall(first, _LR):
        raise NoSafeEditError("parameter groups bring rates of their own: multiply these as well")
    if isinstance(first, cst.Name) and _binds_groups(first.value, source):
        raise NoSafeEditError("parameter groups bring rates of their own: multiply these as well")


def _binds_groups(name: str, source: ScriptSource) -> bool:
    """Tell whether a variable is bound to something that names a learning rate."""
    return any(
        m.matches(target.target, m.Name(name)) and bool(m.findall(each.value, _LR))
        for each in source.all(cst.Assign)
        for target in each.targets
    )


def sets_rates(source: ScriptSource) -> bool:
    """Tell whether the script assigns to a group's rate itself."""
    place = m.Subscript(slice=[m.SubscriptElement(m.Index(_LR))])
    assigned = m.Assign(targets=[m.ZeroOrMore(), m.AssignTarget(place), m.ZeroOrMore()])
    return bool(m.findall(source.module, assigned | m.AugAssign(target=place)))


def _assigned_rates(source: ScriptSource) -> list[cst.BaseExpression]:
    """Return what the script assigns to `group["lr"]`, unless made of the rate that was there."""
    place = m.Subscript(slice=[m.SubscriptElement(m.Index(_LR))])
    assigned = [
        each.value
        for each in source.all(cst.Assign)
        if any(m.matches(target.target, place) for target in each.targets)
    ]
    made_of_rates = _names_of_rates(source) if assigned else set()
    return [each for each in assigned if not _holds(each, source, made_of_rates)]


def _names_of_rates(source: ScriptSource) -> set[str]:
    """Return the variables that hold rates which the optimizer had, or what is made of them.

    Such as `rates` and `rate` of `rates = [group["lr"] for group in optimizer.param_groups]` and
    `for group, rate in zip(optimizer.param_groups, rates)`.
    """
    bound: list[tuple[cst.CSTNode, cst.BaseExpression]] = []
    for each in source.all(cst.Assign):
        bound += [(target.target, each.value) for target in each.targets]
    for each in source.all(cst.AnnAssign):
        bound += [] if each.value is None else [(each.target, each.value)]
    bound += [(each.target, each.iter) for each in source.all(cst.For)]
    bound += [(each.target, each.iter) for each in source.all(cst.CompFor)]
    place = m.Subscript(slice=[m.SubscriptElement(m.Index(_LR))])
    found: set[str] = set()
    while True:
        more = {
            name
            for target, value in bound
            if not m.matches(target, place) and _holds(value, source, found)
            for name in _variables(target, source)
        }
        if more <= found:
            return found
        found |= more


def _holds(value: cst.CSTNode, source: ScriptSource, names: set[str]) -> bool:
    """Tell whether an expression reads a rate of a group, or one of the variables."""
    return bool(m.findall(value, _LR)) or not names.isdisjoint(_variables(value, source))


def _variables(node: cst.CSTNode, source: ScriptSource) -> set[str]:
    """Return the names in a node, and its attributes as they are written: `self.rates`."""
    if isinstance(node, cst.Attribute):
        return {source.code(node)}
    if isinstance(node, cst.Name):
        return {node.value}
    return {name for each in node.children for name in _variables(each, source)}


def _times(old: cst.BaseExpression, factor: float) -> cst.BaseExpression:
    known = _value_of(old)
    if known is None:
        return cst.BinaryOperation(_number(factor), cst.Multiply(), grouped(old))
    if len(repr(known * factor)) <= _SHORT:
        return _number(known * factor)
    return cst.BinaryOperation(_number(factor), cst.Multiply(), old)


def _at_least(old: cst.BaseExpression, least: float) -> cst.BaseExpression:
    known = _value_of(old)
    if known is not None:
        return old if known >= least else _number(least)
    return cst.Call(cst.Name("max"), [cst.Arg(old), cst.Arg(_number(least))])


def _value_of(node: cst.BaseExpression) -> float | None:
    if isinstance(node, cst.Integer | cst.Float) and not node.lpar:
        return float(node.evaluated_value)
    return None


def _number(value: float) -> cst.BaseExpression:
    return cst.Float(repr(float(value)))
