"""A weight that was not finite as the forward pass began: what the step before has written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.names.columns import Columns
from gainstage.facts.fault import Fault, Site
from gainstage.graph.autopsy.find import Offence

_SECOND_MOMENTS = ("exp_avg_sq", "square_avg", "sum")
"""What Adam, RMSprop and Adagrad call the running square that they divide by."""


def update_fault(
    fault: Fault,
    offence: Offence,
    optimizer: Optimizer | None,
    columns: Columns,
    place: tuple[str | None, int | None],
) -> Fault:
    """Return the fault of the step before: its gradients were finite, what it wrote was not.

    Args:
        fault: Of the step whose forward pass met the weight.
        offence: Its offence; the node is the weight's own.
        optimizer: That stepped.
        columns: Names the weight.
        place: File and line where the script steps.
    """
    weight: Any = getattr(offence.node, "variable", None)
    if not isinstance(weight, Tensor):
        return fault
    column = columns.by_id.get(id(weight))
    info = None if column is None else columns.tensors[column]
    name = "a weight" if info is None else info.name
    bad = ~torch.isfinite(weight.detach())
    share = f"{int(bad.sum())} of {bad.numel()} elements of {name}"
    op, why = _cause(weight, bad, optimizer)
    return replace(
        fault,
        step=max(fault.step - 1, 0),
        kind="update",
        phase="optimizer",
        site=Site(op, None if info is None else info.module, None, *place),
        message=f"the update made {share} NaN or inf{why}",
        parameter=None if info is None else info.name,
        evidence={**fault.evidence, "elements": int(bad.sum()), "numel": bad.numel()},
    )


def _cause(weight: Tensor, bad: Tensor, optimizer: Optimizer | None) -> tuple[str, str]:
    """Return the operation of the update that did it, and why."""
    state: dict[str, Any] = {} if optimizer is None else optimizer.state.get(weight, {})
    for name in _SECOND_MOMENTS:
        second = state.get(name)
        if not isinstance(second, Tensor) or second.shape != weight.shape:
            continue
        zeros = int((second.detach()[bad] == 0).sum())
        if zeros:
            return "addcdiv", f": 0/0, for {name} is 0 in {zeros} of them and eps adds nothing"
        return "addcdiv", ""
    return "add", ""
