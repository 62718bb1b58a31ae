"""Edits at a model: weights and norms before its optimizer is made, float32 around its call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst import matchers as m

from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import Edits, NoSafeEditError
from gainstage.prescribe.patch.optimizers import Made

_WIDTH = 88


def reinit(
    edits: Edits, record: RankRecord, made: list[Made], done: Mapping[str, Any], seed: int
) -> None:
    """Write initial weights once the model is whole: before its optimizer is made.

    The draws come from a generator of their own, so that the script's other random numbers stay.

    Args:
        edits: Take the change.
        record: Of the baseline: whether a parameter is a module's or a variable.
        made: The optimizers.
        done: By parameter, how it was drawn, as `Reinit` tells in the journal.
        seed: Of the generator.

    Raises:
        NoSafeEditError: If a parameter cannot be named there, or its values were measured.
    """
    if not done:
        raise NoSafeEditError("the trial did not tell which weights it has rewritten")
    if len({each.model for each in made}) > 1:
        raise NoSafeEditError("several models: initialise each where it is made")
    model = made[0].model
    modules = {tensor.name: tensor.module for tensor in record.tensors}
    roots = {name.removesuffix(_within(name, modules.get(name))) for name in done}
    if len(roots) > 1:
        raise NoSafeEditError("several models: initialise each where it is made")
    recipes: dict[tuple[str, float, int, bool], list[str]] = {}
    for name, recipe in done.items():
        ((kind, number), *_), gates = recipe.items(), int(recipe.get("gates", 1))
        if kind == "unknown":
            raise NoSafeEditError(f"{name}: values of kind {number} are measured, not written down")
        is_owned = modules.get(name) is not None
        if is_owned and model is None:
            raise NoSafeEditError(f"{name} has no name where the optimizer is made")
        key = f'"{_within(name, modules[name])}"' if is_owned else name
        recipes.setdefault((kind, float(number), gates, is_owned), []).append(key)
    variables = _Variables(*edits.source.unused("generator", "name", "weight", "gate"))
    lines = [f"{variables.generator} = torch.Generator().manual_seed({seed})"]
    for (kind, number, gates, is_owned), names in recipes.items():
        body = _initialiser(kind, number, gates, variables)
        lines += _weights(names, model if is_owned else None, body, variables)
    # Of optimizers in branches one is made; after another one the same draws change nothing.
    _put_before(edits, made, lines)


def insert_norm(
    edits: Edits, made: list[Made], done: Mapping[str, Any], kind: str, eps: float
) -> None:
    """Write norms behind modules once the model is whole: before its optimizer is made.

    Args:
        edits: Take the change.
        made: The optimizers.
        done: By module, its output's form, as `InsertNorm` tells in the journal.
        kind: `layer`, `rms` or `batch`.
        eps: Of the norms.

    Raises:
        NoSafeEditError: If the model has no name there, or torch has no such norm as a module.
    """
    if not done:
        raise NoSafeEditError("the trial did not tell which modules it has put norms behind")
    model = made[0].model
    if model is None or len(made) > 1:
        raise NoSafeEditError("the optimizer is not made of the parameters() of one model")
    layer, name, width = edits.source.unused("layer", "name", "width")
    behind: dict[tuple[str, bool], list[str]] = {}
    for module, form in done.items():
        sized = f'("{module}", {form["width"]})'
        norm = _norm(kind, int(form["dims"]), int(form["axis"]))
        behind.setdefault((norm, bool(form["is_tuple"])), []).append(sized)
    lines: list[str] = []
    for (norm, is_tuple), sites in behind.items():
        device = f"device=next({model}.parameters()).device"
        after = "layer.norm_after(output)"
        if is_tuple:
            after = "(layer.norm_after(output[0]), *output[1:])"
        lines += [
            _loop_head(f"{name}, {width}", sites),
            f"    {layer} = {model}.get_submodule({name})",
            f"    {layer}.norm_after = torch.nn.{norm.format(width=width)}, eps={eps:g}, {device})",
            f"    {layer}.register_forward_hook(lambda layer, args, output: {after})",
        ]
    _put_before(edits, made, lines)


def _norm(kind: str, dims: int, axis: int) -> str:
    """Return the class of `torch.nn` and its first arguments for a norm of an output's form."""
    match kind:
        case "layer" if axis == dims - 1:
            return "LayerNorm({width}"
        case "layer":
            return "GroupNorm(1, {width}"
        case "rms" if axis == dims - 1:
            return "RMSNorm({width}"
        case "batch" if axis == 1 and dims <= 5:
            return f"BatchNorm{max(1, dims - 2)}d({{width}}"
        case _:
            raise NoSafeEditError(
                f"torch has no {kind} norm along axis {axis} of {dims} as a module"
            )


def _put_before(edits: Edits, made: list[Made], lines: list[str]) -> None:
    for line in dict.fromkeys(each.line for each in made):
        if line is None:
            raise NoSafeEditError("the optimizer is made in the line that begins its block")
        edits.put_before(line, "\n".join(lines))


@dataclass(frozen=True)
class _Variables:
    """Names that the script does not have."""

    generator: str
    name: str
    weight: str
    gate: str


def _within(name: str, module: str | None) -> str:
    """Return the name of a parameter within its root module, whose variable may come before it."""
    leaf = name.rpartition(".")[2]
    return name if module is None else f"{module}.{leaf}" if module else leaf


def _initialiser(kind: str, number: float, gates: int, variables: _Variables) -> str:
    generator, weight, gate = variables.generator, variables.weight, variables.gate
    head = f"for {gate} in {weight}.detach().chunk({gates}):\n        "
    match kind:
        case "normal":
            return f"torch.nn.init.normal_({weight}, 0.0, {number:.6g}, {generator})"
        case "orthogonal":
            if gates == 1:
                return f"torch.nn.init.orthogonal_({weight}, {number:.6g}, {generator})"
            return f"{head}torch.nn.init.orthogonal_({gate}, {number:.6g}, {generator})"
        case "identity":
            if gates == 1:
                return f"torch.nn.init.eye_({weight}).detach().mul_({number:.6g})"
            return f"{head}torch.nn.init.eye_({gate})"
        case _:
            return f"torch.nn.init.zeros_({weight})"


def _weights(names: list[str], model: str | None, body: str, variables: _Variables) -> list[str]:
    """Return the loop that initialises weights: by their names within a model, or variables."""
    head = _loop_head(variables.weight if model is None else variables.name, names)
    if model is None:
        return [head, f"    {body}"]
    found = f"    {variables.weight} = {model}.get_parameter({variables.name})"
    return [head, found, f"    {body}"]


def _loop_head(variables: str, values: list[str]) -> str:
    head = f"for {variables} in ({', '.join(values)},):"
    if len(head) > _WIDTH:
        inside = "".join(f"\n    {each}," for each in values)
        head = f"for {variables} in ({inside}\n):"
    return head


def fp32_module(edits: Edits, module: str) -> None:
    """Compute in float32: everything, or one module's call.

    Raises:
        NoSafeEditError: If what does the rest cannot be found in this file.
    """
    source = edits.source
    if module == "*":
        regions = [
            each
            for each in source.all(cst.Call)
            if m.matches(each.func, m.Name("autocast") | m.Attribute(attr=m.Name("autocast")))
        ]
        if not regions:
            raise NoSafeEditError(f"{source.path.name} opens no autocast region itself")
        for each in regions:
            given = [arg for arg in each.args if arg.keyword and arg.keyword.value == "enabled"]
            if given:
                edits.replaced[given[0].value] = cst.Name("False")
            else:
                edits.add_keyword(each, "enabled", cst.Name("False"))
        return
    last = module.rpartition(".")[2]
    calls = [
        each
        for each in source.all(cst.Call)
        if m.matches(each.func, m.Attribute(attr=m.Name(last))) and len(each.args) == 1
    ]
    line = source.holder(calls[0], cst.SimpleStatementLine) if len(calls) == 1 else None
    if line is None:
        raise NoSafeEditError(
            f"call {module} within torch.autocast(device_type, enabled=False), its input as float32"
        )
    value = calls[0].args[0].value
    edits.replaced[value] = cst.Call(cst.Attribute(value, cst.Name("float")))
    edits.around[line] = f"with torch.autocast({source.code(value)}.device.type, enabled=False)"
