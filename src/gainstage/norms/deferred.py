"""Norms on an accelerator: computed where the gradients are, fetched later, without waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from gainstage.norms.total import combine_norms
from gainstage.readable import readable

Number: TypeAlias = float | Tensor | None
"""A number, or a tensor of one element that holds it, or nothing."""


def deferred_norms(grads: Sequence[Tensor | None]) -> list[Number]:
    """Return the 2-norm of each gradient as a 0-d tensor on its device; waits for nothing.

    Accumulated in float64, where the device has it, so that it is exact over the whole range of
    float32; reading memory is what it costs there, not arithmetic. None for what the gate refuses,
    such as sparse gradients, which coalescing would wait for. Of a DTensor the local part is read.
    """
    norms: list[Number] = [None] * len(grads)
    kinds: dict[tuple[torch.device, torch.dtype], dict[int, Tensor]] = {}
    for position, grad in enumerate(grads):
        part = None if grad is None else readable(grad)
        if part is not None:
            kinds.setdefault((part.device, part.dtype), {})[position] = part
    for (device, _), same in kinds.items():
        with torch.no_grad():
            each = torch._foreach_norm(list(same.values()), 2.0, _wide(device))
        for position, norm in zip(same, each, strict=True):
            norms[position] = norm
    return norms


@dataclass(frozen=True, slots=True)
class _Part:
    """The numbers that come from one device, and the event after which they are there."""

    positions: list[int]
    host: Tensor
    event: torch.Event | None


class Fetch:
    """Numbers on their way from accelerators to the host, by one asynchronous copy a device."""

    def __init__(self, numbers: Sequence[Number]) -> None:
        """Begin to fetch. Launches a stack and a copy into pinned memory for each device.

        Args:
            numbers: What to fetch; floats and None are passed through.
        """
        self._numbers = list(numbers)
        devices: dict[torch.device, list[int]] = {}
        for position, number in enumerate(numbers):
            if isinstance(number, Tensor):
                devices.setdefault(number.device, []).append(position)
        self._parts = [self._begin(device, positions) for device, positions in devices.items()]

    def _begin(self, device: torch.device, positions: list[int]) -> _Part:
        wide = _wide(device)
        row: list[Tensor] = []
        for position in positions:
            number = self._numbers[position]
            assert isinstance(number, Tensor)
            row.append(number.detach().reshape(()).to(wide))
        # torch takes pinned memory for this copy of its own accord.
        host = torch.stack(row).to("cpu", non_blocking=True)
        event = None
        if device.type != "cpu" and _is_available(device):
            event = torch.Event(device)
            event.record(torch.accelerator.current_stream(device))
        return _Part(positions, host, event)

    def is_there(self) -> bool:
        """Tell whether all numbers have arrived; asks, and does not wait."""
        return all(part.event is None or part.event.query() for part in self._parts)

    def numbers(self) -> list[float | None]:
        """Return the numbers in their order; waits for those that have not arrived."""
        for part in self._parts:
            if part.event is not None:
                part.event.synchronize()
            for position, number in zip(part.positions, part.host.tolist(), strict=True):
                self._numbers[position] = number
        self._parts = []
        return [None if number is None else float(number) for number in self._numbers]


def fetched_norms(grads: Sequence[Tensor | None]) -> tuple[list[float | None], float | None]:
    """Return what `gradient_norms` does, for gradients on an accelerator. Waits for it once."""
    norms = Fetch(deferred_norms(grads)).numbers()
    return norms, total_of(norms)


def total_of(norms: Sequence[float | None]) -> float | None:
    """Return the 2-norm of all gradients from their norms, None where there is none at all."""
    there = [norm for norm in norms if norm is not None]
    return combine_norms(there, 2.0) if there else None


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _is_available(device: torch.device) -> bool:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator is not None and accelerator.type == device.type
