"""Gradients by time step: the states of a recurrent layer, one by one, as autograd sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gainstage.bits import theil_sen
from gainstage.lab.adding_task import Adder
from gainstage.lab.levels import level_bits

MANTISSA_BITS = 24
"""float32 adds nothing that is 24 bits smaller: what lies further back is forgotten."""
_SUBNORMAL_BITS = -120.0
"""Below it float32 has no full mantissa left, and a slope would be one of rounding."""
_FITTED = 400


@dataclass(frozen=True, slots=True)
class TimeProfile:
    """Gradient levels over the distance from the end of a sequence."""

    cell: str
    length: int
    delta_bits: tuple[float, ...]
    """Level of ∂L/∂h at distance 0, 1, 2, ... from the last time step."""
    grad_bits: tuple[float, ...]
    """Level of the gradient that this time step adds to the recurrent weights."""
    slope_bits: float
    """Of `delta_bits`, bits a time step; negative vanishes."""

    @property
    def horizon(self) -> float:
        """Time steps until the gradient has fallen by 24 bits; inf where it does not fall."""
        fallen = [
            i for i, b in enumerate(self.delta_bits) if b < self.delta_bits[0] - MANTISSA_BITS
        ]
        if fallen:
            return float(fallen[0])
        return MANTISSA_BITS / -self.slope_bits if self.slope_bits < 0 else math.inf


def by_time_step(model: Adder, cell: str, inputs: Tensor, sums: Tensor) -> TimeProfile:
    """Return the gradients of one batch by time step.

    The fused layer hides its states, so its own weights run here cell by cell; each time step gets
    a copy of the recurrent weights of its own, whose gradient is that time step's share.
    """
    states, weights = _run(model, cell, inputs)
    answers = model.readout(states[-1]).squeeze(1)
    nn.functional.mse_loss(answers, sums).backward()
    deltas = tuple(_level(state) for state in states[::-1])
    grads = tuple(_level(weight) for weight in weights[::-1])
    known = [(i, b) for i, b in enumerate(deltas) if b > _SUBNORMAL_BITS][:_FITTED]
    slope = theil_sen([i for i, _ in known], [b for _, b in known])
    return TimeProfile(cell, len(states), deltas, grads, slope)


def _level(tensor: Tensor) -> float:
    return -math.inf if tensor.grad is None else level_bits(tensor.grad)


def _run(model: Adder, cell: str, inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    get = model.recurrent.get_parameter
    weight, bias_in, bias_rec = get("weight_hh_l0"), get("bias_ih_l0"), get("bias_hh_l0")
    drive = inputs @ get("weight_ih_l0").T + bias_in
    state = torch.zeros(len(inputs), weight.shape[1])
    memory = torch.zeros_like(state)
    states: list[Tensor] = []
    weights: list[Tensor] = []
    for time_step in range(inputs.shape[1]):
        own = weight.detach().clone().requires_grad_()
        now, rec = drive[:, time_step], state @ own.T + bias_rec
        if cell == "rnn":
            state = torch.tanh(now + rec)
        elif cell == "gru":
            reset, update = (now + rec)[:, : 2 * state.shape[1]].sigmoid().chunk(2, 1)
            fresh = torch.tanh(now.chunk(3, 1)[2] + reset * rec.chunk(3, 1)[2])
            state = update * state + (1 - update) * fresh
        else:
            into, forget, fresh, out = (now + rec).chunk(4, 1)
            memory = forget.sigmoid() * memory + into.sigmoid() * fresh.tanh()
            state = out.sigmoid() * memory.tanh()
        state.retain_grad()
        states.append(state)
        weights.append(own)
    return states, weights
