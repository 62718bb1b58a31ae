"""Wear of a pump from three vibration channels: dilated temporal convolutions, SGD written by hand."""
import math
from dataclasses import dataclass, field

import torch
from torch import nn
import torch.nn.functional as F


@dataclass
class Config:
    length: int = 128
    channels: int = 24
    batch: int = 32
    steps: int = 450
    base_rate: float = 0.02
    decay: float = 0.1
    momentum: float = 0.9
    dilations: tuple = (1, 2, 4, 8)
    seed: int = 6


@dataclass
class HeavyBall:
    params: list
    momentum: float
    speed: list = field(default_factory=list)

    def __post_init__(self):
        self.speed = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def update(self, rate):
        for p, v in zip(self.params, self.speed):
            v.mul_(self.momentum).add_(p.grad, alpha=-rate)
            p += v
            p.grad = None


class TemporalNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        layers, width = [], 3
        for d in cfg.dilations:
            layers += [nn.Conv1d(width, cfg.channels, 3, dilation=d, padding=d), nn.ELU()]
            width = cfg.channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x):
        h = self.features(x)
        pooled = torch.cat([h.mean(-1), h.amax(-1)], dim=1)
        return self.head(pooled).squeeze(1)


def recordings(cfg, gen):
    wear = torch.rand(cfg.batch, generator=gen)
    t = torch.linspace(0, 6 * math.pi, cfg.length)
    phase = torch.rand(cfg.batch, 3, 1, generator=gen) * 2 * math.pi
    hum = torch.sin(t + phase)
    rattle = wear[:, None, None] * torch.sin(7.3 * t + 2 * phase) * 1.4
    noise = 0.3 * torch.randn(cfg.batch, 3, cfg.length, generator=gen)
    return hum + rattle + noise, 2 * wear - 1


def rate_at(cfg, step):
    """Inverse-time schedule."""
    return cfg.base_rate * (1 + cfg.decay * step)


def run(cfg):
    torch.manual_seed(cfg.seed)
    gen = torch.Generator().manual_seed(cfg.seed + 1)
    net = TemporalNet(cfg)
    ball = HeavyBall(list(net.parameters()), cfg.momentum)
    smooth = None
    for step in range(cfg.steps):
        x, wear = recordings(cfg, gen)
        loss = F.mse_loss(net(x), wear)
        loss.backward()
        ball.update(rate_at(cfg, step))
        smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()
        if step % 50 == 0:
            print(f"{step:4d}  loss {loss.item():.5f}  smoothed {smooth:.5f}")
    return smooth


if __name__ == "__main__":
    print(f"final_loss={run(Config())}")
