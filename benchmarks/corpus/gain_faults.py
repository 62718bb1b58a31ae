"""Families whose signal grows: by depth, by time, by step size, or by summing too much."""

from __future__ import annotations

import random

import torch
from benchmarks.corpus.case import Loop, Training, log_uniform, seeded
from benchmarks.corpus.nets import (
    Batches,
    Recurrent,
    Residual,
    classification,
    fit,
    mlp,
    regression,
    sequences,
)
from torch import nn

STEPS = 160


def _task(draw: random.Random, batches: torch.Generator) -> tuple[Batches, int, str]:
    if draw.random() < 0.5:
        return classification(draw, batches), 5, "classes"
    return regression(draw, batches, scale=log_uniform(draw, 0.3, 3)), 1, "numbers"


def init_scale(draw: random.Random, faulty: bool) -> Training:
    """Weights too large by a factor a layer, in a deep network."""
    batches = seeded(draw)
    task, out, kind = _task(draw, batches)
    depth, width = draw.randint(6, 24), draw.choice([16, 32, 64])
    bits = draw.uniform(10, 60)
    gain = 2 ** (bits / depth) if faulty else 1.0
    activation, adam = draw.choice(["relu", "gelu"]), draw.random() < 0.4
    model = mlp([16, *[width] * depth, out], activation, gain)
    rate = log_uniform(draw, 3e-4, 1e-3) if adam else log_uniform(draw, 1e-3, 5e-3)
    optimizer = _optimizer(model, adam, rate)
    loop = Loop(list(model.parameters()), optimizer, fit(model, task), STEPS)
    return Training(loop, dict(depth=depth, width=width, gain=gain, adam=adam, lr=rate, task=kind))


def recurrent_gain(draw: random.Random, faulty: bool) -> Training:
    """Recurrent weights that multiply the signal at every time step."""
    batches = seeded(draw)
    length, hidden = draw.randint(30, 90), draw.choice([16, 32, 48])
    bits = draw.uniform(14, 40)
    gain = 2 ** (bits / length) if faulty else draw.uniform(0.8, 0.95)
    model = Recurrent(2, hidden, 1, "relu", gain * (draw.uniform(1.1, 1.15) if faulty else 1.0))
    rate = log_uniform(draw, 2e-3, 3e-2)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=draw.choice([0.0, 0.9]))
    task = sequences(draw, batches, length=length)
    loop = Loop(list(model.parameters()), optimizer, fit(model, task), STEPS)
    return Training(loop, dict(length=length, hidden=hidden, gain=gain, lr=rate))


def learning_rate(draw: random.Random, faulty: bool) -> Training:
    """A learning rate many times too large: from the start, from a step on, or ever larger."""
    batches = seeded(draw)
    task, out, kind = _task(draw, batches)
    depth, width = draw.randint(2, 5), draw.choice([32, 64])
    model = mlp([16, *[width] * depth, out], draw.choice(["relu", "tanh", "gelu"]))
    adam = draw.random() < 0.4
    rate = 1e-3 if adam else 0.01
    multiple = log_uniform(draw, 300, 3000) if adam else log_uniform(draw, 100, 1000)
    form = draw.choice(["start", "jump", "ramp"])
    begin = 0 if form == "start" else draw.randint(40, 90)
    growth = draw.uniform(1.1, 1.3)

    def factor(step: int) -> float:
        if not faulty or step < begin:
            return 1.0
        return min(multiple, growth ** (step - begin)) if form == "ramp" else multiple

    optimizer = _optimizer(model, adam, rate)
    loop = Loop(list(model.parameters()), optimizer, fit(model, task), STEPS + begin, lr_of=factor)
    settings = dict(depth=depth, form=form, multiple=multiple, adam=adam, begin=begin, task=kind)
    return Training(loop, settings, fault_step=begin)


def residual_growth(draw: random.Random, faulty: bool) -> Training:
    """A residual stream that nothing holds as training goes on."""
    batches = seeded(draw)
    task, out, kind = _task(draw, batches)
    depth = draw.randint(8, 20)
    scale = 1.0 if faulty else depth**-0.5
    model = Residual(16, depth, out, scale * draw.uniform(0.8, 1.0), norm=not faulty)
    rate = log_uniform(draw, 1e-3, 1e-2)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    loop = Loop(list(model.parameters()), optimizer, fit(model, task), STEPS)
    return Training(loop, dict(depth=depth, scale=scale, lr=rate, task=kind))


def loss_reduction(draw: random.Random, faulty: bool) -> Training:
    """A loss summed over batch and outputs, with a step size meant for the mean."""
    batches = seeded(draw)
    batch, outputs = draw.choice([32, 64, 128]), draw.choice([1, 4, 16])
    task = regression(draw, batches, batch=batch, outputs=outputs, scale=log_uniform(draw, 0.3, 3))
    if draw.random() < 0.4:
        task, outputs = classification(draw, batches, batch=batch), 5
    model = mlp([16, 64, 64, outputs], draw.choice(["relu", "tanh"]))
    rate = log_uniform(draw, 0.03, 0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=draw.choice([0.0, 0.9]))
    loss = fit(model, task, "sum" if faulty else "mean")
    loop = Loop(list(model.parameters()), optimizer, loss, STEPS)
    return Training(loop, dict(batch=batch, outputs=outputs, lr=rate))


def grad_accumulation(draw: random.Random, faulty: bool) -> Training:
    """Gradients that are never zeroed, or summed over micro-batches and not divided."""
    batches = seeded(draw)
    task, out, kind = _task(draw, batches)
    model = mlp([16, 48, 48, out], draw.choice(["relu", "gelu"]))
    rate, parts = log_uniform(draw, 0.02, 0.06), draw.choice([8, 16])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=0.9 if draw.random() < 0.5 else 0
    )
    loss, weights = fit(model, task), list(model.parameters())
    settings = dict(lr=rate, parts=parts, task=kind)
    if draw.random() < 0.6:
        loop = Loop(weights, optimizer, loss, STEPS, zero_grad=not faulty)
        return Training(loop, settings | dict(form="never zeroed"))
    loop = Loop(weights, optimizer, loss, STEPS // 2, micro_batches=parts, divide=not faulty)
    return Training(loop, settings | dict(form="not divided"))


def _optimizer(model: nn.Module, adam: bool, rate: float) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if adam else torch.optim.SGD
    return kind(model.parameters(), lr=rate)
