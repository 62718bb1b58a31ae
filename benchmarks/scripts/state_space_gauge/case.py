"""Streamflow nowcast from rainfall: selective state-space layers, one sequence per catchment-season."""
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    length: int = 96
    batch: int = 8
    channels: int = 12
    order: int = 16
    layers: int = 2
    dt_min: float = 0.002
    dt_max: float = 0.1
    lr: float = 1e-2
    steps: int = 100
    seed: int = 13


cfg = Config()
torch.manual_seed(cfg.seed)


def seasons(n, length):
    """Hourly rain bursts routed through a fast surface store and a slow ground store."""
    wet = (torch.rand(n, length) < 0.12).float()
    rain = wet * torch.distributions.Gamma(1.2, 0.6).sample((n, length))
    fast, slow, flow = torch.zeros(n), torch.zeros(n), []
    for t in range(length):
        fast = 0.15 * fast + 0.7 * rain[:, t]
        slow = 0.97 * slow + 0.03 * rain[:, t]
        flow.append(0.85 * fast + slow)
    return rain.unsqueeze(-1), torch.stack(flow, 1).unsqueeze(-1)


class SelectiveStateSpace(nn.Module):
    """x' = A x + B u,  y = C x + D u, where every channel picks its time step from the input."""

    def __init__(self, channels, order):
        super().__init__()
        self.register_buffer("a", -torch.arange(1.0, order + 1))
        self.b = nn.Parameter(torch.ones(channels, order))
        self.c = nn.Parameter(torch.randn(channels, order) / order**0.5)
        self.d = nn.Parameter(torch.ones(channels))
        self.step = nn.Linear(channels, channels)
        nn.init.uniform_(self.step.weight, -1 / channels, 1 / channels)
        span = torch.tensor([cfg.dt_min, cfg.dt_max]).log()
        dt = torch.exp(span[0] + (span[1] - span[0]) * torch.rand(channels))
        with torch.no_grad():
            self.step.bias.copy_(torch.log(torch.expm1(dt)))

    def forward(self, u):
        dt = nn.functional.softplus(self.step(u)).unsqueeze(-1)
        decay = 1.0 + dt * self.a
        drive = dt * self.b * u.unsqueeze(-1)
        x = torch.zeros_like(drive[:, 0])
        states = []
        for t in range(u.shape[1]):
            x = decay[:, t] * x + drive[:, t]
            states.append(x)
        return (torch.stack(states, 1) * self.c).sum(-1) + self.d * u


class Block(nn.Module):
    def __init__(self, channels, order):
        super().__init__()
        self.ssm = SelectiveStateSpace(channels, order)
        self.mix = nn.Linear(channels, channels)

    def forward(self, x):
        return x + self.mix(nn.functional.gelu(self.ssm(x)))


class Gauge(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(1, cfg.channels)
        self.blocks = nn.ModuleList(Block(cfg.channels, cfg.order) for _ in range(cfg.layers))
        self.decode = nn.Linear(cfg.channels, 1)

    def forward(self, rain):
        x = self.encode(rain)
        for block in self.blocks:
            x = block(x)
        return self.decode(x)


model = Gauge()
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=0.01)
losses = []
for step in range(cfg.steps):
    rain, flow = seasons(cfg.batch, cfg.length)
    loss = nn.functional.mse_loss(model(rain), flow)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    losses.append(loss.item())
    if step % 10 == 0:
        print(f"step {step:4d}  mse {loss.item():.5f}")

print(f"final_loss={sum(losses[-10:]) / 10}")

