"""The first wrong operation of a step whose loss is not finite, named while the graph is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gainstage.facts.fault import FaultEvidence, FaultKind, Share
from gainstage.facts.fault_text import fault_text
from gainstage.graph.autopsy.batch import batch_in, entering, looks_up, samples_of
from gainstage.graph.autopsy.blame import Suspect, first_wrong, has_unsaved_operand, untracked
from gainstage.graph.autopsy.explain import Explanation, explain, of_operand, share_of
from gainstage.graph.autopsy.path import above, loss_side, path_down
from gainstage.graph.autopsy.values import Values
from gainstage.graph.nodes.finite import (
    dtype_name,
    largest,
    largest_finite,
    nonfinite,
    status_of,
)
from gainstage.graph.nodes.isolated_thread import run_isolated
from gainstage.graph.nodes.saved import saved_tensors
from gainstage.graph.nodes.walk import Node, is_leaf, walk
from gainstage.graph.operations.table import class_name_of, op_of, operation_of

_ENTRY_HOPS = 4
_FAR_LARGER = 2.0**20
_FACTORS = 3
"""So many arguments an operation multiplies at most whose inside is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """The first wrong operation of a step, while its graph and its tensors are there."""

    node: Node
    op: str
    """torch's function name, such as `log`."""
    kind: FaultKind
    is_backward: bool = False
    """Whether the forward pass stayed finite and only a derivative did not."""
    evidence: FaultEvidence
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
    """All other arguments, in JSON's types, and the node's `kind`."""

    @property
    def text(self) -> str:
        """Return what went wrong in one sentence."""
        return fault_text(self.op, self.evidence)


def find_forward(roots: Iterable[Tensor]) -> Culprit | None:
    """Return the first wrong operation behind roots that are NaN or inf.

    Call it as backward begins, while the nodes still hold what they saved. It changes nothing: no
    hook runs, no random number is drawn, no gradient is recorded. Waits for the device. Takes as
    long as walking the graph, plus computing what between culprit and loss was not saved.

    Returns:
        None if all roots are finite, or hang on no graph.
    """
    given = [root for root in roots if root.grad_fn is not None]
    return run_isolated(lambda: _find_forward(given))


def _find_forward(roots: list[Tensor]) -> Culprit | None:
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
    return Culprit(
        node=node,
        op=op_of(node),
        kind=kind,
        evidence=replace(
            found.evidence,
            operand=suspect.operand,
            value=suspect.value,
            batch_size=batch.size,
            brought_in=kind == "overflow" and _is_brought_in(node, values),
        ),
        samples=samples,
        time_step=time_step,
        chain=path_down(node, {root.grad_fn for root in roots}, values.consumers),
        after_last_parameter=in_loss,
        result=values.value(node, suspect.output),
        inputs=inputs_of(operands),
        settings=settings_of(operands, node),
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
        operation = operation_of(node)
        if is_leaf(node) or not (operation.adds or operation.scales):
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
    node = suspect.node
    result = values.value(node, suspect.output)
    where = None if result is None else nonfinite(result)
    match suspect.reason:
        case "leaf":
            # A weight of one number has a share, too: it is one of many weights.
            share = None if where is None else Share(int(where.sum()), where.numel())
            evidence = FaultEvidence(reason="nonfinite-parameter", share=share)
            return Explanation("parameter", where, evidence)
        case "operand":
            name = suspect.operand or "other"
            return of_operand(name, dict(untracked(node)).get(name), result)
        case "opaque":
            return _of_opaque(node, result, where)
        case "made":
            found = explain(operation_of(node), operands, result)
            evidence = replace(found.evidence, argument_unsaved=suspect.unseen)
            return replace(found, evidence=evidence)


def _of_opaque(node: Node, result: Tensor | None, where: Tensor | None) -> Explanation:
    """Return the account of an operation whose inside is not in the graph."""
    known = [(name, each) for name, each in saved_tensors(node) if each.is_floating_point()]
    inputs = {name: largest(each.detach()) for name, each in known if each.numel()}
    dtype = next((t.dtype for t in (result, *(each for _, each in known)) if t is not None), None)
    limit = None if dtype is None else largest_finite(dtype)
    # The root of the limit, for a power of the value may overflow a float itself.
    if limit is None or max(inputs.values(), default=0.0) < limit ** (1 / _FACTORS):
        return Explanation("unknown", where, FaultEvidence(reason="opaque"))
    evidence = FaultEvidence(
        reason="overflow",
        dtype=None if dtype is None else dtype_name(dtype),
        largest_finite=limit,
        largest_input=inputs,
        share=share_of(where),
    )
    return Explanation("overflow", where, evidence)


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
    return kept | {"kind": class_name_of(node)}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        each = [_plain(one) for one in value]
        return NotImplemented if any(one is NotImplemented for one in each) else each
    if isinstance(value, Tensor):
        return NotImplemented
    return str(value).removeprefix("torch.")
