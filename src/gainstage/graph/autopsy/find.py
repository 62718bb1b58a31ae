"""The first wrong operation of a step whose loss is not finite, named while the graph is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gainstage.facts.fault import FaultKind
from gainstage.graph.autopsy.batch import batch_in, entering, looks_up, samples_of
from gainstage.graph.autopsy.blame import Suspect, first_wrong, has_unsaved_operand, untracked
from gainstage.graph.autopsy.explain import Explanation, explain, of_operand
from gainstage.graph.autopsy.path import above, loss_side, path_down
from gainstage.graph.autopsy.values import Values
from gainstage.graph.nodes.finite import largest, nonfinite, status_of
from gainstage.graph.nodes.isolated_thread import apart
from gainstage.graph.nodes.saved import saved_tensors
from gainstage.graph.nodes.walk import Node, is_leaf, walk
from gainstage.graph.operations.table import kind_of, op_of, operation_of

_ENTRY_HOPS = 4
_FAR_LARGER = 2.0**20
_FACTORS = 3
"""So many arguments an operation multiplies at most whose inside is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offence:
    """The first wrong operation of a step."""

    node: Node
    op: str
    """torch's function name, such as `log`."""
    kind: FaultKind
    is_backward: bool = False
    """Whether the forward pass stayed finite and only a derivative did not."""
    values: str
    """Such as `log of 0 in 3 of 40 elements; smallest positive value elsewhere 2.1e-31`."""
    operand: str | None = None
    """For `input`, `target`, `constant`: the argument that was not finite as it entered."""
    samples: tuple[int, ...] | None = None
    """Positions in the batch; None when unsure, or when more than 16."""
    time_step: int | None = None
    chain: tuple[Node, ...] = ()
    """From the culprit to the loss; for a backward fault, to a parameter. Both ends are in it."""
    after_last_parameter: bool = False
    """Whether no parameter enters the graph at the node or after it: it belongs to the loss."""
    result: Tensor | None = None
    inputs: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """The arguments by torch's names, not copied: enough for `reexecute` where all are known."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON types only."""


def find_forward(roots: Iterable[Tensor]) -> Offence | None:
    """Return the first wrong operation behind roots that are NaN or inf.

    Call it as backward begins, while the nodes still hold what they saved. It changes nothing: no
    hook runs, no random number is drawn, no gradient is recorded. Waits for the device. Takes as
    long as walking the graph, plus computing what between culprit and loss was not saved.

    Returns:
        None if all roots are finite, or hang on no graph.
    """
    given = [root for root in roots if root.grad_fn is not None]
    return apart(lambda: _find_forward(given))


def _find_forward(roots: list[Tensor]) -> Offence | None:
    if all((status := status_of(root)) is None or status.finite for root in roots):
        return None
    nodes = walk(roots)
    values = Values(nodes, roots)
    suspect = first_wrong(values, roots)
    if suspect is None:
        return None
    node = suspect.node
    operands = values.operands(node)
    found = _account(suspect, values, operands)
    in_loss = loss_side(node, values.consumers)
    kind = _kind(suspect, found, in_loss)
    entrances = entering(nodes)
    batch = batch_in(entrances, values.consumers)
    samples, time_step = None, None
    upstream = above(node)
    from_batch = (
        suspect.reason == "operand"
        or any(each in upstream for each, _ in entrances)
        or any(looks_up(each, batch.size) for each in upstream)
    )
    if found.where is not None and kind != "parameter" and from_batch:
        samples, time_step = samples_of(found.where, batch, node)
    return Offence(
        node=node,
        op=op_of(node),
        kind=kind,
        values=found.text,
        operand=suspect.operand,
        samples=samples,
        time_step=time_step,
        chain=path_down(node, {root.grad_fn for root in roots}, values.consumers),
        after_last_parameter=in_loss,
        result=values.value(node, suspect.output),
        inputs=inputs_of(operands),
        settings=settings_of(operands, node),
        evidence=found.evidence
        | {
            "value": suspect.value,
            "batch_size": batch.size,
            "brought_in": kind == "overflow" and _is_brought_in(node, values),
        },
    )


def _is_brought_in(node: Node, values: Values) -> bool:
    """Tell whether what overflows came from an argument that autograd does not track.

    Such as a target, far larger than the prediction that it is subtracted from.
    """
    own = max((largest(each) for _, each in untracked(node) if each.is_floating_point()), default=0)
    for _ in range(_ENTRY_HOPS):
        above = [
            (largest(value), parent)
            for parent, output in node.next_functions
            if parent is not None and (value := values.value(parent, output)) is not None
        ]
        if not above:
            return False
        top, node = max(above, key=lambda each: each[0])
        if own > max(top, 1.0) * _FAR_LARGER:
            return True
        own = 0.0
        if is_leaf(node) or operation_of(node).op not in ("add", "sub", "rsub", "mul", "div"):
            return False
        tracked = [
            largest(value)
            for parent, output in node.next_functions
            if parent is not None and (value := values.value(parent, output)) is not None
        ]
        if tracked and max(tracked) < top / _FAR_LARGER:
            return has_unsaved_operand(node) or any(True for _ in untracked(node))
    return False


def _account(suspect: Suspect, values: Values, operands: dict[str, Any]) -> Explanation:
    node, op = suspect.node, op_of(suspect.node)
    result = values.value(node, suspect.output)
    if suspect.reason == "leaf":
        where = None if result is None else nonfinite(result)
        count = "" if where is None else f" in {int(where.sum())} of {where.numel()} elements"
        return Explanation("parameter", f"a parameter was not finite before the step{count}", where)
    if suspect.reason == "operand":
        name = suspect.operand or "other"
        given = dict(untracked(node)).get(name)
        return of_operand(op, name, given, result)
    if suspect.reason == "opaque":
        where = None if result is None else nonfinite(result)
        text = f"{op} gives {'NaN' if suspect.value == 'nan' else 'inf'} for finite arguments"
        text += "; what it does inside is not in the graph"
        known = [each for _, each in saved_tensors(node) if each.is_floating_point()]
        top = max((largest(each.detach()) for each in known if each.numel()), default=0.0)
        dtype = next((each.dtype for each in (result, *known) if each is not None), None)
        # The root of the limit, for a power of the value may overflow a float itself.
        if dtype is not None and top >= torch.finfo(dtype).max ** (1 / _FACTORS):
            text = f"{op} overflows {str(dtype).removeprefix('torch.')}"
            return Explanation("overflow", f"{text}; largest input magnitude {top:.3g}", where)
        return Explanation("unknown", text, where)
    found = explain(operation_of(node), operands, result)
    if suspect.unseen:
        text = f"{found.text}; inferred from the result, its argument was not saved"
        return replace(found, text=text)
    return found


def _kind(suspect: Suspect, found: Explanation, in_loss: bool) -> FaultKind:
    """Return the kind; data that enter after the last parameter are targets."""
    if suspect.reason != "operand":
        return found.kind
    value = dict(untracked(suspect.node)).get(suspect.operand or "")
    is_number = value is not None and value.dim() == 0
    moving = suspect.operand in ("running_mean", "running_var")
    if is_number or moving or operation_of(suspect.node).masks:
        return "constant"
    tracked = any(parent is not None for parent, _ in suspect.node.next_functions)
    is_target = suspect.operand in ("target", "targets") or (in_loss and tracked)
    return "target" if is_target else "input"


def inputs_of(operands: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors among an operation's arguments."""
    return {name: value for name, value in operands.items() if isinstance(value, Tensor)}


def settings_of(operands: dict[str, Any], node: Node) -> dict[str, Any]:
    """Return what is no tensor among an operation's arguments, as JSON types, and its `kind`."""
    plain = {name: _plain(value) for name, value in operands.items()}
    kept = {name: value for name, value in plain.items() if value is not NotImplemented}
    return kept | {"kind": kind_of(node)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        each = [_plain(one) for one in value]
        return NotImplemented if any(one is NotImplemented for one in each) else each
    if isinstance(value, Tensor):
        return NotImplemented
    return str(value).removeprefix("torch.")
