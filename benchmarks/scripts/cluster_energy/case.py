"""Energy of small atomic clusters: learned charge-dependent displacements, pair distances, radial features."""
import math

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

torch.manual_seed(6)
torch.set_default_dtype(torch.float64)

ATOMS, KINDS, WELL = 7, 3, 1.3


def clusters(n, g):
    pos = torch.randn(n, ATOMS, 3, generator=g) * 1.2
    kind = torch.randint(0, KINDS, (n, ATOMS), generator=g)
    size = torch.tensor([0.8, 1.0, 1.25])[kind]
    d = torch.cdist(pos, pos)
    reach = (size[:, :, None] + size[:, None, :]) / 2 * WELL
    pair = (1 - torch.exp(-1.1 * (d - reach))).square() - 1
    pair = pair.clamp(max=8.0).triu(1)
    return pos, kind, pair.sum((1, 2)) / ATOMS


class Radial(nn.Module):
    def __init__(self, n=16, reach=6.0):
        super().__init__()
        self.register_buffer("centre", torch.linspace(0, reach, n))
        self.log_width = nn.Parameter(torch.full((n,), math.log(2.0)))

    def forward(self, d):
        return torch.exp(-(d[..., None] - self.centre).square() * self.log_width.exp())


class ClusterNet(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.kind = nn.Embedding(KINDS, 8)
        self.shift = nn.Sequential(spectral_norm(nn.Linear(11, 24)), nn.Tanh(), nn.Linear(24, 3))
        self.radial = Radial()
        self.pair = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.register_buffer("same", torch.eye(ATOMS, dtype=torch.bool))

    def distances(self, pos):
        gap = pos[:, :, None] - pos[:, None, :]
        squared = gap.square().sum(-1)
        if squared.requires_grad:
            squared.register_hook(lambda grad: grad.masked_fill(self.same, 0.0))
        return squared.sqrt()

    def forward(self, pos, kind):
        tag = self.kind(kind)
        pos = pos + 0.2 * self.shift(torch.cat([pos, tag], dim=-1))
        d = self.distances(pos)
        both = tag[:, :, None] + tag[:, None, :], (tag[:, :, None] - tag[:, None, :]).square()
        pair = self.pair(torch.cat([self.radial(d), *both], dim=-1)).squeeze(-1)
        return pair.masked_fill(self.same, 0.0).sum((1, 2)) / ATOMS


def main(steps=260, batch=24):
    g = torch.Generator().manual_seed(60)
    test = clusters(200, g)
    net = ClusterNet()
    geometry = [*net.shift.parameters(), *net.radial.parameters()]
    chemistry = [*net.kind.parameters(), *net.pair.parameters()]
    movers = [torch.optim.RMSprop(geometry, lr=5e-4), torch.optim.Adam(chemistry, lr=4e-3)]
    rates = [torch.optim.lr_scheduler.ExponentialLR(m, 0.995) for m in movers]
    for step in range(steps):
        pos, kind, energy = clusters(batch, g)
        loss = (net(pos, kind) - energy).square().mean()
        net.zero_grad()
        loss.backward()
        for mover, rate in zip(movers, rates):
            mover.step()
            rate.step()
        if step % 26 == 0:
            net.eval()
            with torch.no_grad():
                error = (net(*test[:2]) - test[2]).abs().mean()
            net.train()
            print(f"step {step} loss {loss.item():.4f} test error {error.item():.4f}")
    net.eval()
    with torch.no_grad():
        print(f"final_loss={(net(*test[:2]) - test[2]).square().mean().item()}")


main()
