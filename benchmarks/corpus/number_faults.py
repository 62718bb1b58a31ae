"""Families in which a number goes wrong: in the data, an operation, a dtype, a normalisation."""

from __future__ import annotations

import math
import random

import torch
from benchmarks.corpus.case import Loop, Training, log_uniform, seeded
from benchmarks.corpus.nets import classification, fit, mlp, regression
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 160


def bad_data(draw: random.Random, faulty: bool) -> Training:
    """From a step on, one batch in a while is unscaled, or holds NaN."""
    batches = seeded(draw)
    scaled = regression(draw, batches, scale=log_uniform(draw, 0.3, 3))
    begin, often = draw.randint(30, 100), draw.randint(5, 20)
    form = draw.choice(["inputs", "targets", "nan"])
    factor = log_uniform(draw, 3e2, 1e5)

    def spoilt(step: int) -> tuple[Tensor, Tensor]:
        x, y = scaled(step)
        if faulty and step >= begin and (step - begin) % often == 0:
            row = draw.randrange(len(x))
            x, y = x.clone(), y.clone()
            if form == "inputs":
                x[row] *= factor
            elif form == "targets":
                y[row] = (y[row].abs() + y.std()) * factor
            else:
                x[row, 3] = math.nan
        return x, y

    model = mlp([16, 48, 48, 1], draw.choice(["relu", "gelu"]))
    rate = log_uniform(draw, 0.01, 0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    loop = Loop(list(model.parameters()), optimizer, fit(model, spoilt), STEPS)
    return Training(loop, dict(form=form, factor=factor, often=often, lr=rate), fault_step=begin)


def numeric_op(draw: random.Random, faulty: bool) -> Training:
    """An operation that leaves its domain, or whose derivative does, on a rare input."""
    batches = seeded(draw)
    task = classification(draw, batches, classes=2)
    begin = draw.randint(20, 120)
    form = draw.choice(["log", "sqrt", "div", "acos"])
    eps = 0.0 if faulty else 1e-4
    model = mlp([16, 32, 32, 8], "relu")
    head = nn.Linear(8, 1)

    def loss_of(step: int) -> Tensor:
        x, labels = task(step)
        hidden = model(x)
        if form == "sqrt":
            # A pair of equal rows has the distance 0, whose root has no derivative.
            other = hidden.roll(1, 0)
            if step >= begin:
                other = torch.cat([hidden[:1], other[1:]])
            hidden = hidden * (((hidden - other) ** 2).sum(1, keepdim=True) + eps).sqrt().tanh()
        if form == "div":
            if step >= begin:
                hidden = hidden * torch.ones(len(x), 1).index_fill(0, torch.tensor([0]), 0.0)
            hidden = hidden / (hidden.abs().sum(1, keepdim=True) + eps)
        if form == "acos":
            cosine = F.cosine_similarity(hidden, hidden.roll(1, 0), dim=1)
            if step >= begin:
                cosine = torch.cat(
                    [
                        torch.ones_like(cosine[:1]) * hidden[0, :1].exp() / hidden[0, :1].exp(),
                        cosine[1:],
                    ]
                )
            hidden = hidden * torch.acos(cosine * (1 - eps)).unsqueeze(1)
        logits = head(hidden).squeeze(1)
        if form == "log":
            p = torch.sigmoid(logits)
            if step >= begin:
                p = p * torch.ones_like(p).index_fill(0, torch.tensor([2]), 0.0)
            right = torch.where(labels == 1, p, 1 - p)
            if step >= begin:
                right = torch.cat([right[:2], p[2:3], right[3:]])
            return -torch.log(right + eps).mean()
        return F.binary_cross_entropy_with_logits(logits, labels.float())

    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    loop = Loop(parameters, optimizer, loss_of, STEPS)
    return Training(loop, dict(form=form, begin=begin), fault_step=begin)


def dtype_overflow(draw: random.Random, faulty: bool) -> Training:
    """A product in float16 whose factors grow as it trains; in float32 there is room."""
    batches = seeded(draw)
    task = regression(draw, batches, scale=log_uniform(draw, 30, 200), noise=0.01)
    model = mlp([16, 64, 64, 1], "relu")
    rate = log_uniform(draw, 1e-2, 3e-2)
    units = log_uniform(draw, 3e2, 3e3)
    dtype = torch.float16 if faulty else torch.float32
    form = draw.choice(["cast", "autocast"])

    def loss_of(step: int) -> Tensor:
        x, y = task(step)
        if form == "cast":
            wide = (model(x) * 8).to(dtype) * units / 8
        else:
            with torch.autocast("cpu", dtype=torch.float16, enabled=faulty):
                wide = model(x) * 8 * units / 8
        return F.mse_loss((wide / units).float(), y)

    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loop = Loop(list(model.parameters()), optimizer, loss_of, STEPS)
    return Training(loop, dict(lr=rate, units=units, form=form))


def normalization(draw: random.Random, faulty: bool) -> Training:
    """A batch or a row whose variance is zero, divided by without an eps."""
    batches = seeded(draw)
    form = draw.choice(["constant feature", "one sample", "empty row", "dead unit"])
    plain = classification(draw, batches, batch=4 if form == "dead unit" else 32)
    begin = 0 if form == "dead unit" else draw.randint(20, 120)
    eps = 0.0 if faulty else 1e-3
    over = 1 if form == "empty row" else 0

    def next_batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = plain(step)
        if step == begin:
            if form == "constant feature":
                x[:, 0] = 1.0
            elif form == "one sample":
                x, y = x[:1], y[:1]
            elif form == "empty row":
                x[7] = 0.0
        return x, y

    layers = mlp([16, 24, 24, 5], "relu")

    def model(x: Tensor) -> Tensor:
        for layer in layers:
            if isinstance(layer, nn.Linear):
                centred = x - x.mean(over, keepdim=True)
                x = centred / ((centred**2).mean(over, keepdim=True) + eps).sqrt()
            x = layer(x)
        return x

    def loss_of(step: int) -> Tensor:
        x, y = next_batch(step)
        return F.cross_entropy(model(x), y)

    rate = log_uniform(draw, 0.003, 0.03)
    optimizer = torch.optim.SGD(layers.parameters(), lr=rate, momentum=0.9)
    loop = Loop(list(layers.parameters()), optimizer, loss_of, STEPS)
    return Training(loop, dict(form=form, lr=rate), fault_step=begin)
