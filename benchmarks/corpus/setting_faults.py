"""Families whose network is sound and whose settings are not: clip, objective, optimizer."""

from __future__ import annotations

import random

import torch
from benchmarks.corpus.case import Loop, Training, log_uniform, seeded
from benchmarks.corpus.nets import Recurrent, classification, fit, mlp, regression, sequences
from torch import Tensor

STEPS = 160


def clip_misuse(draw: random.Random, faulty: bool) -> Training:
    """A recurrent net that clipping saves; the clip comes after the step or leaves out a part."""
    batches = seeded(draw)
    length = draw.randint(30, 70)
    model = Recurrent(2, 32, 1, "relu", 1.1 * 2 ** (draw.uniform(14, 24) / length))
    task = sequences(draw, batches, length=length)
    optimizer = torch.optim.SGD(model.parameters(), lr=log_uniform(draw, 1e-2, 5e-2))
    form = draw.choice(["after the step", "head only", "far too high"])
    parameters = list(model.parameters())
    max_norm = 1.0
    if faulty and form == "head only":
        parameters = list(model.head.parameters())
    if faulty and form == "far too high":
        max_norm = 1e9
    late = faulty and form == "after the step"
    loop = Loop(parameters, optimizer, fit(model, task), STEPS, max_norm, clip_after_step=late)
    return Training(loop, dict(form=form, length=length))


def unbounded_objective(draw: random.Random, faulty: bool) -> Training:
    """An objective that has no minimum: a variance that may vanish, a critic that nothing holds."""
    batches = seeded(draw)
    form = draw.choice(["variance", "critic", "distance"])
    rate = log_uniform(draw, 1e-2, 5e-2)
    if form == "variance":
        exact = regression(draw, batches, noise=0.0)
        model = mlp([16, 64, 2], "tanh")
        low = None if faulty else -4.0

        def loss_of(step: int) -> Tensor:
            x, _ = exact(step)
            y = x[:, :1] * 0.5
            mean, log_var = model(x).split(1, 1)
            log_var = log_var if low is None else log_var.clamp(min=low)
            return ((y - mean) ** 2 * torch.exp(-log_var) + log_var).mean()
    elif form == "critic":
        task = classification(draw, batches, classes=2)
        model = mlp([16, 48, 48, 1], "relu")

        def loss_of(step: int) -> Tensor:
            x, label = task(step)
            sign = torch.where(label == 1, 1.0, -1.0).unsqueeze(1)
            score = model(x)
            bound = 0.0 if faulty else 0.1 * (score**2).mean()
            return -(sign * score).mean() + bound
    else:
        task = classification(draw, batches, classes=3)
        model = mlp([16, 48, 8], "relu")

        def loss_of(step: int) -> Tensor:
            x, label = task(step)
            distance = torch.cdist(model(x), model(x).detach())
            same = label[:, None] == label[None]
            apart = distance if faulty else distance.clamp(max=2.0)
            return distance[same].mean() - apart[~same].mean()

    momentum = draw.choice([0.0, 0.9])
    optimizer: torch.optim.Optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=momentum
    )
    loop = Loop(list(model.parameters()), optimizer, loss_of, 3 * STEPS)
    return Training(loop, dict(form=form, lr=rate, momentum=momentum))


def optimizer_config(draw: random.Random, faulty: bool) -> Training:
    """Momentum of 1 or more, a weight decay of the wrong sign, eps 0, maximise for minimise."""
    batches = seeded(draw)
    task = classification(draw, batches) if draw.random() < 0.5 else regression(draw, batches)
    out = 5 if task(0)[1].dtype == torch.int64 else 1
    model = mlp([16, 48, 48, out], draw.choice(["relu", "gelu"]))
    form = draw.choice(["momentum", "decay", "eps", "maximize"])
    rate = log_uniform(draw, 0.02, 0.08)
    loss_of = fit(model, task)
    make = torch.optim.SGD
    if form == "momentum":
        optimizer = make(
            model.parameters(), lr=rate, momentum=draw.uniform(1.01, 1.1) if faulty else 0.9
        )
    elif form == "decay":
        # A decay of the wrong sign, by hand: torch refuses a negative weight_decay.
        optimizer = make(model.parameters(), lr=rate, momentum=0.9)
        growth = draw.uniform(0.02, 0.1) if faulty else -1e-4
        loop = Loop(list(model.parameters()), optimizer, loss_of, STEPS, growth=growth)
        return Training(loop, dict(form=form, lr=rate, growth=growth))
    elif form == "maximize":
        optimizer = make(model.parameters(), lr=rate, momentum=0.9, maximize=faulty)
    else:
        # A layer that gets no signal has gradients of exactly 0: with eps 0 that is 0/0.
        idle = torch.nn.Parameter(torch.ones(4))
        parameters = [*model.parameters(), idle]
        adam = torch.optim.Adam(parameters, lr=1e-3, eps=0.0 if faulty else 1e-8)

        def with_idle(step: int) -> Tensor:
            return loss_of(step) + (0 * idle).sum()

        return Training(Loop(parameters, adam, with_idle, STEPS), dict(form=form))
    return Training(
        Loop(list(model.parameters()), optimizer, loss_of, STEPS), dict(form=form, lr=rate)
    )
