"""What a check reads of live tensors and a whole graph: initial weights, batch norms, sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from gainstage.analysis.curvature import (
    Spectrum,
    adam_sharpness,
    max_stable_adam_lr,
    max_stable_lr,
    sharpness,
)
from gainstage.analysis.initial_scale import initial_scale
from gainstage.errors import ConfigError
from gainstage.graph.nodes.readers import Graph, read_graph
from gainstage.graph.nodes.walk import is_leaf, walk
from gainstage.graph.operations.table import operation_of
from gainstage.graph.weights.uses import WeightUse, weight_uses
from gainstage.ledger.gain_data import InitialWeight, NormBatch, Sharpness

_PRODUCTS = 24
_FEWEST_PRODUCTS = 4
_VECTORS_BYTES = 10**9
"""That the vectors of Lanczos may take, which are kept in float64."""

NameOf = Callable[[int], str | None]
"""From the id of a parameter to its name."""


def read_weights(roots: Sequence[Tensor]) -> list[tuple[Tensor, InitialWeight]]:
    """Return every weight of two dimensions or more below the roots, unnamed, in forward order.

    Reads all elements once; waits for an accelerator.
    """
    graph = read_graph(roots)
    uses = weight_uses(graph)
    found = [(use.parameter, _used(use)) for use in uses if use.parameter.dim() >= 2 and _real(use)]
    known = {id(parameter) for parameter, _ in found}
    for parameter in _leaves(graph):
        if id(parameter) not in known and parameter.dim() >= 2 and parameter.numel():
            found.append((parameter, _unused(parameter)))
    return found


def named(read: Sequence[tuple[Tensor, InitialWeight]], name_of: NameOf) -> list[InitialWeight]:
    """Return what was read of the weights that have a name."""
    pairs = [(name_of(id(parameter)), each) for parameter, each in read]
    return [replace(each, name=name) for name, each in pairs if name is not None]


def read_norms(roots: Sequence[Tensor]) -> list[NormBatch]:
    """Return the batch norms below the roots that took statistics from the batch."""
    found: list[NormBatch] = []
    nodes = [node for node in walk(roots) if not is_leaf(node)]
    for place, node in enumerate(nodes):
        if not operation_of(node).batch_statistics or not getattr(node, "_saved_training", True):
            continue
        shape = node._saved_input.shape
        channels = max(1, shape[1])
        found.append(NormBatch(None, shape[0], math.prod(shape) // channels, place))
    return found


def read_sharpness(
    loss: Tensor, scale: float, optimizers: Sequence[Optimizer], *, seed: int = 0
) -> Sharpness:
    """Return the largest curvature of a loss whose graph is whole, by differentiating it twice.

    The graph is kept, no `.grad` is filled, and the forward pass is not run again.

    Args:
        loss: One element, with the loss scale in it.
        scale: That loss scale.
        optimizers: Of the script; the one that steps what the loss depends on is compared.
        seed: Of the first vector.
    """
    graph = read_graph([loss])
    leaves = [leaf for leaf in _leaves(graph) if leaf.is_floating_point()]
    size = sum(leaf.numel() for leaf in leaves)
    products = min(_PRODUCTS, _VECTORS_BYTES // (8 * max(size, 1)))
    if not size or not math.isfinite(float(loss.detach())):
        return _unmeasured("the loss is not finite" if size else "the loss has no parameters")
    if products < _FEWEST_PRODUCTS:
        return _unmeasured(f"{size:,} parameters: the vectors of Lanczos would not fit in 1 GB")
    optimizer, why_not = _optimizer_of(leaves, optimizers)
    moments = None if optimizer is None else _moments(optimizer, leaves)
    try:
        if optimizer is not None and moments is not None:
            settings = optimizer.param_groups[0]
            found = adam_sharpness(
                loss / scale,
                leaves,
                moments[0],
                step=moments[1],
                betas=settings["betas"],
                eps=settings["eps"],
                products=products,
            )
        else:
            found = sharpness(loss / scale, leaves, products=products, seed=seed)
    except RuntimeError as error:
        return _unmeasured(_reason(error))
    if not math.isfinite(found.largest):
        return _unmeasured("a second derivative is not finite")
    measured = Sharpness(found.largest, found.error, found.products)
    if optimizer is None:
        return replace(measured, note=why_not)
    compared = _compared(measured, found, optimizer, is_adam=moments is not None)
    if compared.is_judged and any(_is_norm(node) for node in graph.nodes):
        # What is normalised grows under steps that are too long, which shortens them: Arora, Li
        # and Lyu (2018), arXiv 1812.03981.
        return replace(compared, is_judged=False, note="normalised weights bear more")
    return compared


def _is_norm(node: Any) -> bool:
    kind = operation_of(node)
    return kind.normalizes or kind.dispersion == "norm"


def _compared(
    measured: Sharpness, found: Spectrum, optimizer: Optimizer, *, is_adam: bool
) -> Sharpness:
    groups = optimizer.param_groups
    name = type(optimizer).__name__
    lr = max(float(group["lr"]) for group in groups if "lr" in group)
    measured = replace(measured, optimizer=name, lr=lr, is_preconditioned=is_adam)
    if is_adam:
        # It begins high and falls by itself (Cohen et al. 2022): told, not judged.
        limit = max_stable_adam_lr(found.largest, beta1=groups[0]["betas"][0])
        return replace(measured, max_stable_lr=limit)
    if type(optimizer) is not SGD:
        if isinstance(optimizer, Adam):
            note = f"{name} has no second moments before its first step; measure with --steps 2"
        else:
            note = f"no stability limit is known for {name}"
        return replace(measured, note=note)
    momentum, damped = float(groups[0]["momentum"]), bool(groups[0]["dampening"])
    if groups[0]["maximize"] or damped:
        return replace(measured, note="no stability limit with dampening or maximize")
    limit = max_stable_lr(found.largest, momentum=momentum)
    if groups[0]["nesterov"]:
        limit /= 1 + 2 * momentum  # (2 + 2β) / ((1 + 2β) λ): Cohen et al. (2021), appendix B
    return replace(measured, max_stable_lr=limit, is_judged=True)


def _optimizer_of(
    leaves: Sequence[Tensor], optimizers: Sequence[Optimizer]
) -> tuple[Optimizer | None, str | None]:
    """Return the optimizer that steps all leaves, or why there is none."""
    if not optimizers:
        return None, "no optimizer to compare with"
    wanted = {id(leaf) for leaf in leaves}
    for optimizer in optimizers:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if wanted <= own:
            return optimizer, None
    return None, "not compared: no optimizer steps all that the loss depends on"


def _moments(optimizer: Optimizer, leaves: Sequence[Tensor]) -> tuple[list[Tensor], int] | None:
    """Return Adam's second moments and step count, None before there are any."""
    if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
        return None
    states: list[dict[str, Any]] = [optimizer.state.get(leaf, {}) for leaf in leaves]
    if not all("exp_avg_sq" in state for state in states):
        return None
    return [state["exp_avg_sq"] for state in states], int(states[0]["step"])


def _unmeasured(why: str) -> Sharpness:
    return Sharpness(largest=None, note=f"not measured: {why}")


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of an error of torch's."""
    said = str(error).strip().split("\n")[0].split(". ")[0]
    return said if len(said) <= 160 else f"{said[:157]}..."


def _leaves(graph: Graph) -> Iterator[Tensor]:
    """Yield the leaves of a graph, each once, in the order of their first use."""
    seen: set[int] = set()
    for node in graph.nodes:
        for parent, _ in node.next_functions:
            if parent is not None and is_leaf(parent) and id(parent.variable) not in seen:
                seen.add(id(parent.variable))
                yield parent.variable


def _real(use: WeightUse) -> bool:
    return use.parameter.is_floating_point() and use.parameter.numel() > 0


def _used(use: WeightUse) -> InitialWeight:
    weight = use.parameter.detach()
    turned = weight.transpose(-1, -2) if use.inputs_first else weight
    if turned.dim() > 2 and not use.is_convolution:
        turned = turned.flatten(0, -2)  # a stack of matrices, looked at as one
    try:
        # What turns a state into the next one should keep its length, whatever follows.
        found = initial_scale(turned, "linear" if use.is_recurrent else use.activation.name)
    except ConfigError:
        return _unused(weight)
    # The graph's fan-in, which knows groups, strides and einsum; the shape of the tensor does not.
    expected = found.expected_rms * math.sqrt(turned[0].numel() / use.fan_in)
    return InitialWeight(
        name="",
        shape=tuple(weight.shape),
        distribution=found.shape,
        rules=found.rules,
        rms=found.rms,
        activation=use.activation.name,
        is_recurrent=use.is_recurrent,
        expected_rms=expected,
        excess_bits=math.log2(found.rms / expected) if found.rms > 0 else -math.inf,
    )


def _unused(weight: Tensor) -> InitialWeight:
    with torch.no_grad():
        found = initial_scale(weight.detach(), "linear")
    return InitialWeight("", tuple(weight.shape), found.shape, found.rules, found.rms)
