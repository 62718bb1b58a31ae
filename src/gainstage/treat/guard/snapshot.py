"""Copies of what a step changes, to be put back: statistics of batch norm, and everything."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Statistics:
    """Running statistics of batch norm, as they were before the forward passes of the step.

    The forward pass has updated them before a gradient tells that the batch was bad, so a copy is
    held from the end of the step before: 8 bytes a channel, copied once a step.
    """

    def __init__(self) -> None:
        self._modules: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._buffers: list[Tensor] = []
        self._copies: list[Tensor] = []

    def watch(self, roots: Iterable[nn.Module]) -> None:
        """Take the normalisation layers within these modules as well, as they are now."""
        for root in roots:
            for module in root.modules():
                if isinstance(module, _NormBase) and module.track_running_stats:
                    self._modules.add(module)
        self.keep()

    def keep(self) -> None:
        """Copy the statistics as they are now. Waits for nothing."""
        if not self._modules:
            return
        buffers = self._current()
        with torch.no_grad():
            if list(map(id, buffers)) == list(map(id, self._buffers)):
                for same in _by_kind(zip(self._copies, buffers, strict=True)):
                    torch._foreach_copy_([each for each, _ in same], [each for _, each in same])
            else:
                self._buffers, self._copies = buffers, [b.detach().clone() for b in buffers]

    def is_finite(self) -> bool:
        """Tell whether the statistics are finite now. Waits for an accelerator."""
        floating = [each for each in self._current() if each.is_floating_point()]
        return all(bool(torch.isfinite(each).all()) for each in floating)

    def restore(self) -> None:
        """Put the statistics back as they were when last kept."""
        buffers = self._current()
        if len(buffers) != len(self._copies):
            return  # a layer has gone, or come, since
        with torch.no_grad():
            for buffer, kept in zip(buffers, self._copies, strict=True):
                buffer.copy_(kept)

    def _current(self) -> list[Tensor]:
        return [b for m in self._modules for b in m._buffers.values() if b is not None]

    def by_id(self) -> dict[int, Tensor]:
        """Return the copies by the id of the buffer they are of."""
        return dict(zip(map(id, self._buffers), self._copies, strict=True))

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Return each buffer with a new copy of what was kept of it."""
        return [(b, kept.clone()) for b, kept in zip(self._buffers, self._copies, strict=True)]

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(each.numel() * each.element_size() for each in self._copies)


def _by_kind(pairs: Iterable[tuple[Tensor, Tensor]]) -> list[list[tuple[Tensor, Tensor]]]:
    """Return the pairs in lists of one dtype and device, for which one kernel is fast."""
    kinds: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor]]] = {}
    for pair in pairs:
        kinds.setdefault((pair[1].dtype, pair[1].device), []).append(pair)
    return list(kinds.values())


class Snapshot:
    """Parameters, optimizer states and statistics at one moment, on the devices they are on."""

    def __init__(self, optimizers: Sequence[Any], statistics: Statistics) -> None:
        """Copy everything. Waits for nothing."""
        parameters = [
            p for each in optimizers for group in each.param_groups for p in group["params"]
        ]
        tensors = {id(parameter): parameter for parameter in parameters}
        self._tensors = [(p, p.detach().clone()) for p in tensors.values()]
        self._tensors += statistics.pairs()
        self._states = [(weakref.ref(each), _copied(dict(each.state))) for each in optimizers]

    def restore(self) -> None:
        """Put everything back; the snapshot stays as it is, to be restored again."""
        with torch.no_grad():
            for tensor, kept in self._tensors:
                tensor.copy_(kept)
        for reference, kept in self._states:
            optimizer = reference()
            if optimizer is not None:
                optimizer.state.clear()
                optimizer.state.update(_copied(kept))

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        kept = [each for _, each in self._tensors]
        kept += [each for _, state in self._states for each in _tensors_in(state)]
        return sum(each.numel() * each.element_size() for each in kept)


def _copied(value: Any) -> Any:
    """Return a copy of nested state with the tensors in it cloned; parameters stay as keys."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list):
        return [_copied(item) for item in cast("list[Any]", value)]
    if isinstance(value, tuple):
        return tuple(_copied(item) for item in cast("tuple[Any, ...]", value))
    return copy.deepcopy(value)


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(cast("dict[Any, Any]", value).values())
    if isinstance(value, list | tuple):
        return [each for item in cast("list[Any]", value) for each in _tensors_in(item)]
    return []
