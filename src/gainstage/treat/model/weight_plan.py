"""What weights a graph uses, and the new values to write into each."""

from __future__ import annotations

import fnmatch
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gainstage.graph.nodes.readers import Graph
from gainstage.graph.weights.activations import Activation
from gainstage.graph.weights.uses import WeightUse, residual_ends, weight_uses
from gainstage.treat.model.initial_values import (
    automatic_kind,
    draw,
    gain_of,
    input_gates,
    normal_std,
    recurrent,
)
from gainstage.treat.model.recipe import Recipe

MEASURED = "lsuv"
"""What stands for a scale until it has been measured."""
_GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}


@dataclass(slots=True)
class WeightPlan:
    """What is to be written."""

    writes: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Call them without gradients."""
    measured: list[Tensor] = field(default_factory=list[Tensor])
    """Weights to be scaled by `UnitVariance` in the forward pass that follows."""
    rewritten: dict[str, str] = field(default_factory=dict[str, str])
    """What each weight gets, by its name."""
    details: dict[str, dict[str, float | str]] = field(
        default_factory=dict[str, dict[str, float | str]]
    )
    """How a script would draw the same: by name, torch's initialiser and its number."""


def plan_weights(
    graph: Graph, names: Mapping[int, str], modules: Sequence[nn.Module], recipe: Recipe
) -> WeightPlan:
    """Return what to write, for the weights that a graph uses.

    Args:
        graph: Read before backward.
        names: By the id of each parameter that may be rewritten.
        modules: All that are alive: recurrent layers and batch norms are known by their class.
        recipe: How weights are to be drawn.
    """
    plan = WeightPlan()
    owned = _plan_recurrent(plan, modules, names, recipe)
    uses = [
        use
        for use in weight_uses(graph)
        if id(use.parameter) in names and id(use.parameter) not in owned
    ]
    ends, sums = residual_ends(graph, uses) if recipe.kind == "residual" else ({}, 0)
    planned = [use for use in uses if _is_meant(names[id(use.parameter)], recipe)]
    for use in planned:
        factor = 1.0 / math.sqrt(sums) if id(use.parameter) in ends else 1.0
        _plan_use(plan, use, names, recipe, factor)
    if planned:
        plan.writes.extend(_reset_statistics(modules, names))
    return plan


def _is_meant(name: str, recipe: Recipe) -> bool:
    return fnmatch.fnmatchcase(name, recipe.only)


def _plan_use(
    plan: WeightPlan, use: WeightUse, names: Mapping[int, str], recipe: Recipe, factor: float
) -> None:
    """Plan a weight and the biases beside it."""
    name = names[id(use.parameter)]
    kind = automatic_kind(use) if recipe.kind in ("auto", "residual") else recipe.kind
    plan.rewritten[name] = _described(use, kind, factor)
    generator = _generator(recipe.seed, name, use.parameter)
    values = draw(use, kind, recipe.mode, generator).mul_(factor)
    plan.details[name] = _drawn(use, kind, recipe.mode, values, factor)
    plan.writes.append(_write(use.parameter, values))
    biases = [] if use.is_recurrent else [bias for bias in use.biases if id(bias) in names]
    plan.writes.extend(_write(bias, torch.zeros_like(bias)) for bias in biases)
    plan.details |= {names[id(bias)]: {"zeros": True} for bias in biases}
    if kind == "lsuv" and not use.is_recurrent:
        plan.measured.append(use.parameter)


def _plan_recurrent(
    plan: WeightPlan, modules: Sequence[nn.Module], names: Mapping[int, str], recipe: Recipe
) -> set[int]:
    """Plan the weights of recurrent layers, and return the ids of all that these own."""
    owned: set[int] = set()
    for module in modules:
        if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            continue
        for own_name, weight in module.named_parameters(recurse=False):
            owned.add(id(weight))
            name = names.get(id(weight))
            if name is not None and _is_meant(name, recipe):
                _plan_gates(plan, module, own_name, weight, name, recipe)
    return owned


def _plan_gates(
    plan: WeightPlan,
    module: nn.RNNBase | nn.RNNCellBase,
    own_name: str,
    weight: Tensor,
    name: str,
    recipe: Recipe,
) -> None:
    """Plan one weight of a recurrent layer, gate by gate; its biases stay."""
    gates = _gates_of(module)
    generator = _generator(recipe.seed, name, weight)
    if own_name.startswith("weight_hh"):
        values = recurrent(weight, recipe.kind, generator)
        plan.rewritten[name] = "identity" if recipe.kind == "identity" else "orthogonal"
        plan.details[name] = {plan.rewritten[name]: 1.0, "gates": gates}
    elif own_name.startswith("weight_ih"):
        gain = gain_of(Activation(str(getattr(module, "nonlinearity", "tanh"))))
        values = input_gates(weight, gates, recipe.kind, gain, generator)
        plan.rewritten[name] = "he" if recipe.kind == "he" else "xavier"
        plan.details[name] = {"normal": float(values.square().mean().sqrt())}
    else:
        return
    plan.writes.append(_write(weight, values))


def _generator(seed: int, name: str, parameter: Tensor) -> torch.Generator:
    """Return a generator whose draws depend on the weight's name, not on what comes before."""
    generator = torch.Generator(parameter.device)
    return generator.manual_seed(zlib.crc32(f"{seed} {name}".encode()))


def _write(parameter: Tensor, values: Tensor) -> Callable[[], None]:
    # Through `.data`: a graph that the script has retained must not be told to be out of date.
    def write() -> None:
        parameter.data.copy_(values)

    return write


def _drawn(
    use: WeightUse, kind: str, mode: str, values: Tensor, factor: float
) -> dict[str, float | str]:
    """Return how a script would draw the same: the name of torch's initialiser and its number."""
    if use.is_recurrent:
        return {"identity" if kind == "identity" else "orthogonal": 1.0, "gates": 1}
    std = normal_std(use, kind, mode)
    if std is not None:
        return {"normal": std * factor}
    is_kernel = use.is_convolution and not use.inputs_first
    if values.dim() != 2 and not (is_kernel and kind != "identity"):
        return {"unknown": f"{kind}, for several matrices,"}
    if kind == "lsuv":
        return {"unknown": MEASURED}
    return {"identity" if kind == "identity" else "orthogonal": orthogonal_gain(values)}


def orthogonal_gain(values: Tensor) -> float:
    """Return what `torch.nn.init.orthogonal_` has multiplied by, or what scaled its result since.

    All singular values that are not 0 are the gain, of a kernel those of (out, in · size).
    """
    flat = values.flatten(1)
    return float(flat.norm()) / math.sqrt(min(flat.shape))


def _described(use: WeightUse, kind: str, factor: float) -> str:
    if use.is_recurrent:
        return "identity" if kind == "identity" else "orthogonal"
    scaled = "" if factor == 1.0 else f" times {factor:.3g}"
    return f"{kind} for {use.activation.name}, fan in {use.fan_in}, out {use.fan_out}{scaled}"


def _gates_of(module: nn.RNNBase | nn.RNNCellBase) -> int:
    return _GATES.get(str(getattr(module, "mode", type(module).__name__)), 1)


def _reset_statistics(
    modules: Sequence[nn.Module], names: Mapping[int, str]
) -> list[Callable[[], None]]:
    return [
        module.reset_running_stats
        for module in modules
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and any(id(parameter) in names for parameter in module.parameters(recurse=False))
    ]
