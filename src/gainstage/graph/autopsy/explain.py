"""Why an operation's result is not finite, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gainstage.facts.fault import FaultEvidence, FaultKind, Share
from gainstage.graph.autopsy.values import evaluate, in_float64
from gainstage.graph.nodes.finite import (
    dtype_name,
    largest,
    largest_finite,
    nonfinite,
    status_of,
)
from gainstage.graph.operations.operation import Operands, OperationKind, real_of

WIDE_LIMIT = 2**26
"""Above this many elements float64 is not asked: it would take longer than the step."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What went wrong in one operation."""

    kind: FaultKind
    where: Tensor | None
    """A mask of the offending elements, in the shape that tells most of the samples."""
    evidence: FaultEvidence


def explain(operation: OperationKind, operands: Operands, result: Tensor | None) -> Explanation:
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
    left = _left_domain(operation, operands, result, evidence)
    if left is not None:
        return left
    where = _elementwise(operation, operands, result)
    evidence = replace(evidence, share=share_of(where))
    if result is not None and bool(torch.isnan(real_of(result)).any()):
        return _of_nan(operation, operands, where, evidence, recovered=recovered)
    if _takes_in_inf(operands) and not recovered:
        return Explanation("domain", where, replace(evidence, reason="masked-to-inf"))
    return Explanation("overflow", where, replace(evidence, reason="overflow"))


def of_operand(name: str, value: Tensor | None, result: Tensor | None) -> Explanation:
    """Return the account of an untracked argument that was not finite when it entered the graph."""
    if value is None:
        where = None if result is None else nonfinite(result)
        unread = FaultEvidence(reason="nonfinite-operand", operand=name, share=share_of(where))
        return Explanation("constant", where, unread)
    where = nonfinite(value)
    kind: FaultKind = "constant" if value.dim() == 0 else "input"
    evidence = FaultEvidence(
        reason="nonfinite-operand",
        operand=name,
        operand_shape=tuple(value.shape),
        operand_value="nan" if bool(torch.isnan(real_of(value)).any()) else "inf",
        share=share_of(where),
        nonfinite=int(where.sum()),
        first=tuple(where.nonzero()[0].tolist()) if value.dim() else None,
        fills=_filled(where),
    )
    return Explanation(kind, where, evidence)


def _filled(where: Tensor) -> Literal["whole", "samples", "features", "elements"] | None:
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
    operation: OperationKind,
    operands: Operands,
    where: Tensor | None,
    evidence: FaultEvidence,
    *,
    recovered: bool,
) -> Explanation:
    if _takes_in_inf(operands) and not recovered:
        return Explanation("domain", where, replace(evidence, reason="nan-of-inf"))
    if evidence.float64_finite and not recovered:
        return Explanation("overflow", where, replace(evidence, reason="overflow-inside"))
    if operation.domain:
        words = operation.domain[-1].text
        inferred = replace(evidence, reason="outside-domain", domain=words)
        return Explanation("domain", where, inferred)
    return Explanation("unknown", where, replace(evidence, reason="nan"))


def _left_domain(
    operation: OperationKind, operands: Operands, result: Tensor | None, evidence: FaultEvidence
) -> Explanation | None:
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
        smallest = None
        if domain.operand is not None:
            smallest = _smallest(operands[domain.operand], mask)
        left = replace(
            evidence,
            reason="outside-domain",
            domain=domain.text,
            share=share_of(mask),
            smallest_positive=smallest,
        )
        return Explanation("domain", mask if mask.dim() else bad, left)
    return None


def _smallest(value: Tensor, mask: Tensor) -> float | None:
    real = real_of(value)
    others = real[(real > 0) & torch.isfinite(real)]
    return None if not others.numel() or bool(mask.all()) else float(others.min())


def _elementwise(
    operation: OperationKind, operands: Operands, result: Tensor | None
) -> Tensor | None:
    """Return where the result is bad; of a reduced loss, where the unreduced one would be."""
    if operands.get("reduction"):
        whole = next(iter(evaluate(operation, {**operands, "reduction": 0})), None)
        status = None if whole is None else status_of(whole)
        if whole is not None and status is not None and not status.finite:
            return nonfinite(whole)
    return None if result is None else nonfinite(result)


def _measure(
    operation: OperationKind, operands: Operands, result: Tensor | None, *, recovered: bool
) -> FaultEvidence:
    tensors = {} if recovered else tensors_of(operands)
    dtype = operands.get("dtype") if result is None else result.dtype
    evidence = FaultEvidence(
        largest_input={name: largest(each) for name, each in tensors.items()} or None,
        dtype=None if dtype is None else dtype_name(dtype),
        largest_finite=None if dtype is None else largest_finite(dtype),
        elements=None if result is None else result.numel(),
        nonfinite=None if result is None else int(nonfinite(result).sum()),
    )
    if not tensors or sum(t.numel() for t in tensors.values()) > WIDE_LIMIT:
        return evidence
    try:
        wide = next(iter(evaluate(operation, in_float64(operands))), None)
    except (RuntimeError, TypeError):  # a device without float64
        return evidence
    status = None if wide is None else status_of(wide)
    if wide is None or status is None:
        return evidence
    return replace(evidence, float64_finite=status.finite, largest_float64=largest(wide))


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


def share_of(where: Tensor | None) -> Share | None:
    """Return how many elements a mask holds; None of a mask of one number."""
    if where is None or where.dim() == 0:
        return None
    return Share(int(where.sum()), where.numel())
