"""What `torch.amp.GradScaler` is doing: which losses and gradients are scaled, and by how much."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gainstage.readable import PLAIN, whole_part


class LossScale:
    """The loss scale in force, as hooks on a GradScaler tell it. Without one everything is 1."""

    def __init__(self) -> None:
        self._scaler: weakref.ref[GradScaler] | None = None
        self._losses: list[tuple[weakref.ref[Tensor], float | Tensor]] = []
        self._unscaled: set[int] = set()

    @property
    def is_unused(self) -> bool:
        """Whether no scaler has ever scaled a loss."""
        return self._scaler is None

    def on_scale(self, scaler: GradScaler, outputs: Any, scaled: Any) -> None:
        """Note a loss that `scaler.scale` multiplied."""
        if not scaler.is_enabled():
            return
        self._scaler = weakref.ref(scaler)
        self._unscaled.clear()
        if isinstance(outputs, Tensor) and outputs.numel() == 1:
            self._losses = [each for each in self._losses if each[0]() is not None]
            self._losses.append((weakref.ref(scaled), _value_of(outputs)))

    def on_unscale(self, optimizer: Optimizer) -> None:
        """Note that an optimizer's gradients are unscaled until the next loss is scaled."""
        for group in optimizer.param_groups:
            self._unscaled.update(map(id, group["params"]))

    def unscaled_loss(self, loss: Tensor) -> float | Tensor | None:
        """Return the value of a one-element loss as it was before scaling.

        A tensor on its device where that is an accelerator; None where it cannot be read here.
        """
        part = loss if type(loss) in PLAIN else whole_part(loss)
        if part is None:
            return None
        value = _value_of(part)
        if self._scaler is None:
            return value
        for known, before in self._losses:
            if known() is loss:
                return before
        return value / self._value()

    def of(self, parameters: Sequence[Tensor]) -> float | Tensor:
        """Return the factor that is still in the gradients of these parameters."""
        if self._scaler is None or not parameters or id(parameters[0]) in self._unscaled:
            return 1.0
        return self._value()

    def current(self) -> float | Tensor:
        """Return the factor that is in the loss a backward call begins with."""
        return self._value()

    def state(self) -> dict[str, Any] | None:
        """Return the state dict of the scaler, None without one. Waits for an accelerator."""
        scaler = None if self._scaler is None else self._scaler()
        return None if scaler is None else scaler.state_dict()

    def _value(self) -> float | Tensor:
        scaler = None if self._scaler is None else self._scaler()
        if scaler is None:
            return 1.0
        scale = scaler._scale  # `get_scale()` waits for the device
        return scaler.get_scale() if scale is None or scale.is_cpu else scale

    @staticmethod
    def of_fused(optimizer: Optimizer) -> float | Tensor:
        """Return the factor that a fused optimizer will divide by within its step.

        torch hands it over as the attribute `grad_scale`, for the time of the call only.
        """
        scale = getattr(optimizer, "grad_scale", None)
        return _value_of(scale) if isinstance(scale, Tensor) else 1.0

    @staticmethod
    def found_inf(optimizer: Optimizer) -> float | Tensor:
        """Return above 0 where a fused optimizer is about to leave the step out (`found_inf`)."""
        found = getattr(optimizer, "found_inf", None)
        return _value_of(found) if isinstance(found, Tensor) else 0.0


def _value_of(tensor: Tensor) -> float | Tensor:
    """Return the value of a one-element tensor, on an accelerator the tensor itself."""
    return tensor.item() if tensor.is_cpu else tensor.detach()
