"""Which column of the record belongs to which parameter."""

from __future__ import annotations

import operator
import sys
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import FrameType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.names.parameters import describe
from gainstage.facts.tensor import TensorInfo
from gainstage.norms.sums import FAST_ROW

Value = TypeVar("Value")
_PARAMS = operator.itemgetter("params")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read for one optimizer's step, found once."""

    parameters: list[Tensor]
    ids: list[int]
    sizes: list[int]
    """Parameters in each group: other sizes mean that a group was changed."""
    on_cpu: bool
    """Whether all of them are there; else reading is done so that nothing waits."""
    is_small: bool
    """Whether `small_norms` is the way to read the gradients."""
    columns: list[int] | None
    """Column of each parameter; None where they are 0, 1, 2 ... in order."""


class Columns:
    """Columns given out so far. They are only ever appended to, so old rows stay valid."""

    def __init__(self, model: weakref.ref[nn.Module] | None = None) -> None:
        self._model = model
        self.tensors: list[TensorInfo] = []
        self.by_id: dict[int, int] = {}
        """Column of each parameter by its id."""
        self._alive: dict[int, weakref.ref[Tensor]] = {}
        self._named: dict[tuple[str, tuple[int, ...]], int] = {}
        self._plans: dict[int, tuple[weakref.ref[Optimizer], Plan]] = {}
        """By id, until the optimizer dies: asking a WeakKeyDictionary takes 3 µs more."""
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def expect(self, optimizer: Optimizer) -> None:
        """Give the parameters of an optimizer columns together with those of the first step."""
        self._optimizers.add(optimizer)

    def plans(self) -> list[Plan]:
        """Return the plans of all optimizers that have stepped."""
        return [plan for _, plan in self._plans.values()]

    def name_of(self, key: int) -> str | None:
        """Return the name of the parameter with an id."""
        column = self.by_id.get(key)
        return None if column is None else self.tensors[column].name

    def plan_of(self, optimizer: Optimizer) -> Plan:
        """Return what to read for an optimizer; the first call looks up names."""
        key = id(optimizer)
        known = self._plans.get(key)
        groups = optimizer.param_groups
        if known is not None:
            sizes = known[1].sizes
            if len(groups) == len(sizes) == 1:  # quicker than three maps
                if len(groups[0]["params"]) == sizes[0]:
                    return known[1]
            elif sizes == list(map(len, map(_PARAMS, groups))):
                return known[1]
        if not self.tensors:
            self._optimizers.add(optimizer)
            everything = [p for each in self._optimizers for p in _parameters(each)]
            self._register(everything, sys._getframe())
        plan = self.plan_for(_parameters(optimizer), [len(group["params"]) for group in groups])
        plans = self._plans
        plans[key] = weakref.ref(optimizer, lambda _: plans.pop(key, None)), plan
        return plan

    def plan_for(self, parameters: list[Tensor], sizes: list[int]) -> Plan:
        """Return what to read for parameters in a given order."""
        self._register(parameters, sys._getframe())
        ids = list(map(id, parameters))
        columns = [self.by_id[each] for each in ids]
        in_order = columns == list(range(len(columns)))
        on_cpu = is_on_cpu(parameters)
        is_small = all(map(_is_small, parameters))
        return Plan(parameters, ids, sizes, on_cpu, is_small, None if in_order else columns)

    def named_parameters(self, plans: Iterable[Plan]) -> dict[str, Tensor]:
        """Return the parameters of plans by their names, in the order of the columns."""
        known = {self.by_id[id(each)]: each for plan in plans for each in plan.parameters}
        return {self.tensors[column].name: known[column] for column in sorted(known)}

    def optimizers(self) -> list[Optimizer]:
        """Return the optimizers that have stepped, ordered by the columns of their parameters."""

        def place(optimizer: Optimizer) -> int:
            return min(map(self.by_id.__getitem__, map(id, _parameters(optimizer))), default=-1)

        every = [reference() for reference, _ in self._plans.values()]
        return sorted((each for each in every if each is not None), key=place)

    def release(self) -> None:
        """Let go of all parameters; names and columns given out stay."""
        self._plans.clear()
        self._alive.clear()
        self.by_id.clear()

    def spread(self, columns: list[int], values: Sequence[Value | None]) -> list[Value | None]:
        """Return a plan's values as a row: each in its column, None elsewhere."""
        row: list[Value | None] = [None] * len(self.tensors)
        for column, value in zip(columns, values, strict=True):
            row[column] = value
        return row

    def _register(self, parameters: Iterable[Tensor], frame: FrameType) -> None:
        new = [p for p in dict.fromkeys(map(_ById, parameters)) if not self._knows(p.tensor)]
        if not new:
            return
        used: set[int] = set()
        model = None if self._model is None else self._model()
        for tensor, info in describe([each.tensor for each in new], frame, model):
            # A functional script makes new leaves each step: `w = (w - lr * g).requires_grad_()`.
            column = self._named.get((info.name, info.shape))
            if column is None or column in used or self._owner_lives(column):
                column = len(self.tensors)
                self.tensors.append(self._unique(info))
                self._named[self.tensors[-1].name, info.shape] = column
            used.add(column)
            self.by_id[id(tensor)] = column
            self._alive[id(tensor)] = weakref.ref(tensor)

    def _knows(self, tensor: Tensor) -> bool:
        known = self._alive.get(id(tensor))
        return known is not None and known() is tensor

    def _owner_lives(self, column: int) -> bool:
        for key, owned in list(self.by_id.items()):
            if owned == column:
                if self._alive[key]() is not None:
                    return True
                del self.by_id[key], self._alive[key]
        return False

    def _unique(self, info: TensorInfo) -> TensorInfo:
        taken = {each.name for each in self.tensors}
        name, number = info.name, 2
        while name in taken:
            name, number = f"{info.name}#{number}", number + 1
        return info if name == info.name else replace(info, name=name)


@dataclass(frozen=True, slots=True)
class _ById:
    """A tensor that compares by identity, for tensors compare element by element."""

    tensor: Tensor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.tensor is other.tensor

    def __hash__(self) -> int:
        return id(self.tensor)


def is_on_cpu(parameters: Iterable[Tensor]) -> bool:
    """Tell whether all parameters, and so their gradients, are in the host's memory."""
    return all(parameter.is_cpu for parameter in parameters)


def _is_small(parameter: Tensor) -> bool:
    return parameter.numel() <= FAST_ROW and parameter.dtype is not torch.float64


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    listed: Sequence[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    return list(listed)
