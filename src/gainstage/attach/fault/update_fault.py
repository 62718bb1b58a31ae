"""A weight that was not finite as the forward pass began: what the step before has written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.names.columns import Columns
from gainstage.facts.fault import Fault, Share, Site
from gainstage.readable import is_readable

_SECOND_MOMENTS = ("exp_avg_sq", "square_avg", "sum")
"""What Adam, RMSprop and Adagrad call the running square that they divide by."""


def update_fault(
    fault: Fault,
    weight: object,
    optimizer: Optimizer | None,
    columns: Columns,
    place: tuple[str | None, int | None],
) -> Fault:
    """Return the fault of the step before: its gradients were finite, what it wrote was not.

    Args:
        fault: Of the step whose forward pass met the weight.
        weight: The weight that was not finite.
        optimizer: That stepped.
        columns: Names the weight.
        place: File and line where the script steps.
    """
    if not isinstance(weight, Tensor) or not is_readable(weight):
        return fault
    column = columns.by_id.get(id(weight))
    info = None if column is None else columns.tensors[column]
    bad = ~torch.isfinite(weight.detach())
    op, moment, zeros = _cause(weight, bad, optimizer)
    return replace(
        fault,
        step=max(fault.step - 1, 0),
        kind="update",
        phase="optimizer",
        site=Site(op, None if info is None else info.module, None, *place),
        parameter=None if info is None else info.name,
        evidence=replace(
            fault.evidence,
            reason="update",
            share=Share(int(bad.sum()), bad.numel()),
            second_moment=moment,
            zero_second_moments=zeros,
        ),
    )


def _cause(
    weight: Tensor, bad: Tensor, optimizer: Optimizer | None
) -> tuple[str, str | None, int | None]:
    """Return the operation of the update that did it, and the state that was 0 where it did."""
    state: dict[str, Any] = {} if optimizer is None else optimizer.state.get(weight, {})
    for name in _SECOND_MOMENTS:
        second = state.get(name)
        if not isinstance(second, Tensor) or second.shape != weight.shape:
            continue
        if not is_readable(second):
            continue
        zeros = int((second.detach()[bad] == 0).sum())
        return ("addcdiv", name, zeros) if zeros else ("addcdiv", None, None)
    return "add", None, None
