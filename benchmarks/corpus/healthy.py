"""Healthy trainings that tempt a monitor to cry wolf."""

from __future__ import annotations

import math
import random

import torch
from benchmarks.corpus.case import Loop, Training, log_uniform, seeded
from benchmarks.corpus.nets import Recurrent, classification, fit, mlp, regression, sequences
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 300


def gan(draw: random.Random, faulty: bool) -> Training:
    """Two networks that play against each other, with an optimizer each."""
    batches = seeded(draw)
    maker, judge = mlp([8, 32, 32, 2]), mlp([2, 32, 32, 1], norm=draw.random() < 0.5)
    rate = log_uniform(draw, 5e-4, 3e-3)
    betas = (0.5, 0.9)
    of_maker = torch.optim.Adam(maker.parameters(), lr=rate, betas=betas)
    of_judge = torch.optim.Adam(judge.parameters(), lr=rate, betas=betas)

    def run() -> None:
        for _ in range(STEPS // 2):
            angle = torch.randint(8, (64,), generator=batches) * math.pi / 4
            real = torch.stack([angle.cos(), angle.sin()], 1)
            real = real + 0.05 * torch.randn(64, 2, generator=batches)
            made = maker(torch.randn(64, 8, generator=batches))
            of_judge.zero_grad()
            loss = F.softplus(-judge(real)).mean() + F.softplus(judge(made.detach())).mean()
            loss.backward()
            of_judge.step()
            of_maker.zero_grad()
            F.softplus(-judge(made)).mean().backward()
            of_maker.step()

    return Training(run, dict(lr=rate))


def vae(draw: random.Random, faulty: bool) -> Training:
    """A variational autoencoder with a learned, bounded variance: its loss falls below 0."""
    batches = seeded(draw)
    mixing = torch.randn(3, 16, generator=batches)
    encoder, decoder = mlp([16, 32, 6], "tanh"), mlp([3, 32, 16], "tanh")
    log_scale = nn.Parameter(torch.zeros(1))
    parameters = [*encoder.parameters(), *decoder.parameters(), log_scale]
    rate = log_uniform(draw, 1e-3, 1e-2)

    def loss_of(step: int) -> Tensor:
        x = torch.randn(64, 3, generator=batches) @ mixing
        x = x + 0.1 * torch.randn(64, 16, generator=batches)
        mean, log_var = encoder(x).chunk(2, 1)
        code = mean + torch.exp(0.5 * log_var) * torch.randn(64, 3, generator=batches)
        error = (x - decoder(code)) / log_scale.clamp(min=-4).exp()
        likelihood = (0.5 * error**2 + log_scale.clamp(min=-4)).sum(1)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
        return (likelihood + kl).mean()

    return Training(
        Loop(parameters, torch.optim.Adam(parameters, lr=rate), loss_of, STEPS), dict(lr=rate)
    )


def reinforce(draw: random.Random, faulty: bool) -> Training:
    """A policy gradient: the loss is no measure of progress and its noise is large."""
    batches = seeded(draw)
    policy = mlp([4, 32, 4], "tanh")
    best = torch.randint(4, (16,), generator=batches)
    states = torch.randn(16, 4, generator=batches)
    rate, scale = log_uniform(draw, 1e-3, 1e-2), log_uniform(draw, 0.1, 30)

    def loss_of(step: int) -> Tensor:
        which = torch.randint(16, (16,), generator=batches)
        logs = F.log_softmax(policy(states[which]), -1)
        action = torch.multinomial(logs.exp(), 1, generator=batches).squeeze(1)
        reward = (action == best[which]).float() * scale + scale * torch.randn(
            16, generator=batches
        )
        return -((reward - reward.mean()) * logs.gather(1, action[:, None]).squeeze(1)).mean()

    parameters = list(policy.parameters())
    loop = Loop(parameters, torch.optim.Adam(parameters, lr=rate), loss_of, STEPS)
    return Training(loop, dict(lr=rate, scale=scale))


def flow(draw: random.Random, faulty: bool) -> Training:
    """A normalising flow of affine couplings: a log-likelihood of either sign."""
    batches = seeded(draw)
    nets = nn.ModuleList(mlp([1, 32, 2], "tanh", 0.5) for _ in range(6))
    width = log_uniform(draw, 0.02, 0.5)

    def loss_of(step: int) -> Tensor:
        angle = 2 * math.pi * torch.rand(128, generator=batches)
        x = torch.stack([angle.cos(), angle.sin()], 1) + width * torch.randn(
            128, 2, generator=batches
        )
        volume = torch.zeros(128)
        first, second = x.split(1, 1)
        for net in nets:
            log_scale, shift = net(first).split(1, 1)
            log_scale = 2 * torch.tanh(log_scale / 2)
            first, second = second * log_scale.exp() + shift, first
            volume = volume + log_scale.squeeze(1)
        return (0.5 * (first**2 + second**2).sum(1) - volume).mean()

    rate = log_uniform(draw, 1e-3, 5e-3)
    parameters = list(nets.parameters())
    return Training(
        Loop(parameters, torch.optim.Adam(parameters, lr=rate), loss_of, STEPS), dict(lr=rate)
    )


def cyclic(draw: random.Random, faulty: bool) -> Training:
    """A learning rate that goes up and down tenfold, or restarts."""
    task, model, optimizer = _classifier(draw, log_uniform(draw, 0.01, 0.03), momentum=0.9)
    period, restarts = draw.choice([40, 75, 100]), draw.random() < 0.5

    def factor(step: int) -> float:
        phase = step % period / period
        if restarts:
            return 0.05 + 5 * (1 + math.cos(math.pi * phase)) / 2
        return 0.5 + 4.5 * (1 - abs(2 * phase - 1))

    loop = Loop(list(model.parameters()), optimizer, fit(model, task), STEPS, lr_of=factor)
    return Training(loop, dict(period=period, restarts=restarts))


def warm_up(draw: random.Random, faulty: bool) -> Training:
    """A learning rate that starts at a thousandth and climbs."""
    task, model, optimizer = _classifier(draw, log_uniform(draw, 0.03, 0.1), momentum=0.9)
    long = draw.randint(40, 150)
    loop = Loop(
        list(model.parameters()),
        optimizer,
        fit(model, task),
        STEPS,
        lr_of=lambda step: min(1.0, 1e-3 + step / long),
    )
    return Training(loop, dict(warm_up=long))


def curriculum(draw: random.Random, faulty: bool) -> Training:
    """Sequences that become longer, and with them losses and gradients that jump."""
    batches = seeded(draw)
    lengths = [8, 16, 32, 48]
    tasks = [sequences(draw, batches, length=length) for length in lengths]
    model = Recurrent(2, 24, 1, "gru", 1.0)
    each = STEPS // len(tasks)
    optimizer = torch.optim.Adam(model.parameters(), lr=log_uniform(draw, 2e-3, 1e-2))
    jump = draw.uniform(1, 3)

    def loss_of(step: int) -> Tensor:
        stage = min(step // each, len(tasks) - 1)
        x, y = tasks[stage](step)
        return F.mse_loss(model(x), y) * jump**stage

    loop = Loop(list(model.parameters()), optimizer, loss_of, STEPS)
    return Training(loop, dict(jump=jump))


def label_noise(draw: random.Random, faulty: bool) -> Training:
    """A third of the labels or more are wrong."""
    batches = seeded(draw)
    share = draw.uniform(0.3, 0.6)
    task = classification(draw, batches, label_noise=share)
    model = mlp([16, 64, 64, 5])
    optimizer = torch.optim.SGD(model.parameters(), lr=log_uniform(draw, 0.02, 0.1), momentum=0.9)
    return Training(
        Loop(list(model.parameters()), optimizer, fit(model, task), STEPS), dict(share=share)
    )


def fine_tuning(draw: random.Random, faulty: bool) -> Training:
    """From a trained state to a new task: loss and gradients are near zero and then are not."""
    batches = seeded(draw)
    old = classification(draw, batches, spread=0.3)
    new = classification(draw, batches)
    model = mlp([16, 48, 48, 5])
    optimizer = torch.optim.AdamW(model.parameters(), lr=log_uniform(draw, 1e-3, 5e-3))
    switch = draw.randint(100, 150)
    before, after = fit(model, old), fit(model, new)
    loop = Loop(
        list(model.parameters()),
        optimizer,
        lambda step: before(step) if step < switch else after(step),
        STEPS,
    )
    return Training(loop, dict(switch=switch))


def heavy_tails(draw: random.Random, faulty: bool) -> Training:
    """Targets of Student's t with two or three degrees of freedom."""
    batches = seeded(draw)
    clean = regression(draw, batches, noise=0.0)
    freedom = draw.choice([2, 3])

    def next_batch(step: int) -> tuple[Tensor, Tensor]:
        x, y = clean(step)
        normal = torch.randn(freedom, *y.shape, generator=batches)
        noise = torch.randn(y.shape, generator=batches) / (normal**2).mean(0).sqrt()
        return x, y + noise

    model = mlp([16, 48, 48, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=log_uniform(draw, 1e-3, 5e-3))
    loop = Loop(list(model.parameters()), optimizer, fit(model, next_batch), STEPS, max_norm=10.0)
    return Training(loop, dict(freedom=freedom))


def small_batches(draw: random.Random, faulty: bool) -> Training:
    """One or two samples a step."""
    batches = seeded(draw)
    size = draw.choice([1, 2])
    task = classification(draw, batches, batch=size)
    model = mlp([16, 48, 5])
    optimizer = torch.optim.SGD(model.parameters(), lr=log_uniform(draw, 3e-3, 2e-2))
    return Training(
        Loop(list(model.parameters()), optimizer, fit(model, task), STEPS), dict(batch=size)
    )


def clipped(draw: random.Random, faulty: bool) -> Training:
    """Clipping that is active on about a tenth of the steps, as advised."""
    batches = seeded(draw)
    length = draw.randint(20, 50)
    model = Recurrent(2, 32, 1, "tanh", draw.uniform(0.9, 1.1))
    optimizer = torch.optim.SGD(model.parameters(), lr=log_uniform(draw, 0.01, 0.05), momentum=0.9)
    loop = Loop(
        list(model.parameters()),
        optimizer,
        fit(model, sequences(draw, batches, length=length)),
        STEPS,
        max_norm=draw.uniform(0.8, 1.5),
    )
    return Training(loop, dict(length=length))


def _classifier(draw: random.Random, rate: float, momentum: float):
    batches = seeded(draw)
    task = classification(draw, batches)
    model = mlp([16, 64, 64, 5])
    return task, model, torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
