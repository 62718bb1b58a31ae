"""Why an operation's result is not finite, in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gainstage.facts.fault import FaultKind
from gainstage.graph.autopsy.values import evaluate, in_float64
from gainstage.graph.nodes.finite import largest, nonfinite, status_of
from gainstage.graph.operations.operation import Operands, Operation, real_of

WIDE_LIMIT = 2**26
"""Above this many elements float64 is not asked: it would take longer than the step."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What went wrong in one operation."""

    kind: FaultKind
    text: str
    where: Tensor | None
    """A mask of the offending elements, in the shape that tells most of the samples."""
    evidence: dict[str, Any] = field(default_factory=dict[str, Any])


def explain(operation: Operation, operands: Operands, result: Tensor | None) -> Explanation:
    """Return why the result is not finite although the arguments are, or are masked by -inf.

    Args:
        operation: What was computed.
        operands: Its arguments, as many as are known.
        result: What it gave; computed again where None.
    """
    operands = dict(operands)
    if result is None:
        result = next(iter(evaluate(operation, operands)), None)
    recovered = operation.recover is not None and "self" not in operands and result is not None
    if operation.recover is not None and recovered and result is not None:
        operands["self"] = operation.recover(result)
    evidence = _measure(operation, operands, result, recovered=recovered)
    left = _left_domain(operation, operands, result)
    if left is not None:
        text, where, counts = left
        return Explanation("domain", text, where, evidence | counts)
    where = _elementwise(operation, operands, result)
    if result is not None and bool(torch.isnan(real_of(result)).any()):
        return _of_nan(operation, operands, where, evidence, recovered=recovered)
    if _takes_in_inf(operands) and not recovered:
        text = f"{operation.op} of values that a mask had set to inf{_share(where)}"
        return Explanation("domain", text, where, evidence)
    text = f"{operation.op} overflows {_dtype(result, operands)}{_share(where)}"
    return Explanation("overflow", text + _growth(evidence), where, evidence)


def of_operand(op: str, name: str, value: Tensor | None, result: Tensor | None) -> Explanation:
    """Return the account of an untracked argument that was not finite when it entered the graph."""
    if value is None:
        where = None if result is None else nonfinite(result)
        text = f"operand `{name}` of {op}, which autograd does not track, is not finite"
        return Explanation("constant", text + _share(where), where)
    where = nonfinite(value)
    kind: FaultKind = "constant" if value.dim() == 0 else "input"
    what = "NaN" if bool(torch.isnan(real_of(value)).any()) else "inf"
    shape = "×".join(str(size) for size in value.shape) or "scalar"
    text = f"operand `{name}` ({shape}) of {op} holds {what}{_share(where)} as it enters the graph"
    first = where.nonzero()[0].tolist() if value.dim() else []
    evidence = {"nonfinite": int(where.sum()), "first": first, "fills": _filled(where)}
    return Explanation(kind, text, where, evidence)


def _filled(where: Tensor) -> str | None:
    """Return what the offending elements fill; the first dimension counts samples."""
    if where.dim() < 2 or where.shape[-1] < 2:
        return None
    table = where.reshape(-1, where.shape[-1])
    if bool(table.all()):
        return "whole"
    if bool((table == table.all(dim=1, keepdim=True)).all()):
        return "samples"
    if len(table) > 1 and bool((table == table.all(dim=0)).all()):
        return "features"
    return "elements"


def _of_nan(
    operation: Operation,
    operands: Operands,
    where: Tensor | None,
    evidence: dict[str, Any],
    *,
    recovered: bool,
) -> Explanation:
    if _takes_in_inf(operands) and not recovered:
        text = f"{operation.op} makes NaN of an inf{_share(where)}"
        return Explanation("domain", text, where, evidence)
    if evidence.get("float64_finite") and not recovered:
        text = f"{operation.op} overflows inside: inf - inf{_share(where)}{_growth(evidence)}"
        return Explanation("overflow", text, where, evidence)
    if operation.domain:
        text = f"{operation.domain[-1].text}{_share(where)}"
        return Explanation("domain", text, where, evidence)
    text = f"{operation.op} gives NaN{_share(where)}"
    return Explanation("unknown", text, where, evidence)


def _left_domain(
    operation: Operation, operands: Operands, result: Tensor | None
) -> tuple[str, Tensor | None, dict[str, Any]] | None:
    """Return the first way out of the domain that explains a bad element, or None."""
    bad = None if result is None else nonfinite(result)
    for domain in operation.domain:
        try:
            mask = domain.holds(operands)
        except (LookupError, RuntimeError, TypeError, AttributeError):
            continue  # an argument that the rule needs is not known
        if bad is not None and mask.dim() and mask.shape == bad.shape:
            mask = mask & bad
        if not bool(mask.any()):
            continue
        count, total = int(mask.sum()), mask.numel()
        text = domain.text + (f" in {count} of {total} elements" if mask.dim() else "")
        if domain.operand is not None:
            text += _smallest(operands[domain.operand], mask)
        return text, mask if mask.dim() else bad, {"count": count, "elements": total}
    return None


def _smallest(value: Tensor, mask: Tensor) -> str:
    real = real_of(value)
    others = real[(real > 0) & torch.isfinite(real)]
    if not others.numel() or bool(mask.all()):
        return ""
    return f"; smallest positive value elsewhere {float(others.min()):.2g}"


def _elementwise(operation: Operation, operands: Operands, result: Tensor | None) -> Tensor | None:
    """Return where the result is bad; of a reduced loss, where the unreduced one would be."""
    if operands.get("reduction"):
        whole = next(iter(evaluate(operation, {**operands, "reduction": 0})), None)
        status = None if whole is None else status_of(whole)
        if whole is not None and status is not None and not status.finite:
            return nonfinite(whole)
    return None if result is None else nonfinite(result)


def _measure(
    operation: Operation, operands: Operands, result: Tensor | None, *, recovered: bool
) -> dict[str, Any]:
    evidence: dict[str, Any] = {}
    tensors = {} if recovered else tensors_of(operands)
    if tensors:
        evidence["largest_input"] = {name: largest(tensor) for name, tensor in tensors.items()}
    if result is not None:
        evidence["elements"] = result.numel()
        evidence["nonfinite"] = int(nonfinite(result).sum())
    if not tensors or sum(t.numel() for t in tensors.values()) > WIDE_LIMIT:
        return evidence
    try:
        wide = next(iter(evaluate(operation, in_float64(operands))), None)
    except (RuntimeError, TypeError):  # a device without float64
        return evidence
    status = None if wide is None else status_of(wide)
    if wide is not None and status is not None:
        evidence["float64_finite"] = status.finite
        evidence["largest_float64"] = largest(wide)
    return evidence


def tensors_of(operands: Operands) -> dict[str, Tensor]:
    """Return the floating tensors among an operation's arguments."""
    return {
        name: value
        for name, value in operands.items()
        if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
    }


def _takes_in_inf(operands: Operands) -> bool:
    statuses = [status_of(tensor) for tensor in tensors_of(operands).values()]
    return any(status is not None and status.inf for status in statuses)


def _growth(evidence: Mapping[str, Any]) -> str:
    inputs: dict[str, float] = evidence.get("largest_input", {})
    text = ""
    if inputs:
        name = max(inputs, key=lambda n: inputs[n])
        text = f"; largest input magnitude {inputs[name]:.3g} (`{name}`)"
    if evidence.get("float64_finite"):
        text += f"; in float64 the result reaches {evidence['largest_float64']:.3g}"
    elif "float64_finite" in evidence:
        text += "; float64 overflows too"
    return text


def _share(where: Tensor | None) -> str:
    if where is None or where.dim() == 0:
        return ""
    return f" in {int(where.sum())} of {where.numel()} elements"


def _dtype(result: Tensor | None, operands: Operands) -> str:
    dtype: Any = operands.get("dtype") if result is None else result.dtype
    if dtype is None:
        return "its dtype"
    name = str(dtype).removeprefix("torch.")
    return f"{name} (at most {torch.finfo(dtype).max:.3g})"
