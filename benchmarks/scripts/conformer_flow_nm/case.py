"""Normalising flow over internal coordinates (bond lengths in nm, angles in rad) of butane-like conformers."""
import math
from dataclasses import dataclass, field

import torch
import torch.nn as nn


@dataclass
class FlowConfig:
    n_atoms: int = 20
    hidden: int = 48
    couplings: int = 6
    batch_size: int = 128
    iterations: int = 260
    lr: float = 3e-3
    seed: int = 2
    bond_sigma: float = 0.003
    angle_sigma: float = 0.04
    dims: int = field(init=False)

    def __post_init__(self):
        self.dims = (self.n_atoms - 1) + (self.n_atoms - 2)


class ConformerSampler:
    """Boltzmann-like samples: stiff correlated bonds and softer angles, two rotamer families."""

    def __init__(self, cfg):
        g = torch.Generator().manual_seed(cfg.seed)
        n_b, n_a = cfg.n_atoms - 1, cfg.n_atoms - 2
        self.mean = torch.cat([0.11 + 0.045 * torch.rand(n_b, generator=g), 1.9 + 0.1 * torch.rand(n_a, generator=g)])
        scale = torch.cat([torch.full((n_b,), cfg.bond_sigma), torch.full((n_a,), cfg.angle_sigma)])
        mix = torch.eye(cfg.dims) + 0.25 * torch.randn(cfg.dims, cfg.dims, generator=g)
        self.factor = mix * scale[:, None]
        self.shift = 3.0 * scale * torch.randn(cfg.dims, generator=g)

    def __call__(self, n):
        rotamer = torch.randint(0, 2, (n, 1)).float()
        return self.mean + rotamer * self.shift + torch.randn(n, len(self.mean)) @ self.factor.T


class AffineCoupling(nn.Module):
    def __init__(self, dims, hidden, flip):
        super().__init__()
        mask = torch.arange(dims) % 2 == int(flip)
        self.register_buffer("mask", mask.float())
        self.net = nn.Sequential(nn.Linear(dims, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
                                 nn.Linear(hidden, 2 * dims))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        log_s, t = self.net(x * self.mask).chunk(2, dim=1)
        log_s = 1.5 * torch.tanh(log_s) * (1 - self.mask)
        return x * log_s.exp() + t * (1 - self.mask), log_s.sum(1)


class ActNorm(nn.Module):
    """Data-dependent scale and shift, set on the first batch and learned from there on."""

    def __init__(self, dims):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(dims))
        self.shift = nn.Parameter(torch.zeros(dims))
        self.ready = False

    def forward(self, x):
        if not self.ready:
            with torch.no_grad():
                self.shift.copy_(-x.mean(0))
                self.log_scale.copy_(-x.std(0).log())
            self.ready = True
        return (x + self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))


class Flow(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.dims = cfg.dims
        self.steps = nn.ModuleList()
        for k in range(cfg.couplings):
            self.steps += [ActNorm(cfg.dims), AffineCoupling(cfg.dims, cfg.hidden, flip=k % 2)]

    def log_prob(self, x):
        total = 0.0
        for step in self.steps:
            x, log_det = step(x)
            total = total + log_det
        return total - 0.5 * (x ** 2).sum(1) - 0.5 * self.dims * math.log(2 * math.pi)


def train(cfg):
    torch.manual_seed(cfg.seed)
    sampler = ConformerSampler(cfg)
    flow = Flow(cfg)
    optimizer = torch.optim.Adam(flow.parameters(), lr=cfg.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.iterations)
    test = sampler(1000)
    for it in range(cfg.iterations):
        loss = -flow.log_prob(sampler(cfg.batch_size)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 2000.0)
        optimizer.step()
        schedule.step()
        if it % 40 == 0:
            print(f"{it:4d}  train nll {loss.item():.3f}")
    with torch.no_grad():
        return -flow.log_prob(test).mean().item()


print(f"final_loss={train(FlowConfig())}")
