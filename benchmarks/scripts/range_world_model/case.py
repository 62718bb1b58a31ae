"""World model for a corridor robot: recurrent latent dynamics from range scans and wheel commands."""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

BEAMS, HORIZON, STOCH, DETER = 48, 12, 6, 40


def rollout(n, generator):
    """A robot wanders in a room with three pillars; returns scans (n, T, beams) and commands (n, T, 2)."""
    g = generator
    pillars = torch.tensor([[-1.2, 0.4], [0.9, -0.9], [0.6, 1.3]])
    pos = (torch.rand(n, 2, generator=g) - 0.5) * 3
    yaw = torch.rand(n, generator=g) * 2 * math.pi
    angles = torch.linspace(-math.pi, math.pi, BEAMS + 1)[:-1]
    scans, commands = [], []
    turn = 0.4 * torch.randn(n, generator=g)
    for _ in range(HORIZON):
        turn = 0.8 * turn + 0.25 * torch.randn(n, generator=g)
        speed = 0.25 + 0.1 * torch.rand(n, generator=g)
        yaw = yaw + turn
        step = torch.stack([yaw.cos(), yaw.sin()], -1) * speed[:, None]
        pos = (pos + step).clamp(-1.9, 1.9)
        ray = yaw[:, None] + angles
        dx, dy = ray.cos(), ray.sin()
        wall_x = (2 * dx.sign() - pos[:, :1]) / (dx + 1e-6 * dx.sign())
        wall_y = (2 * dy.sign() - pos[:, 1:]) / (dy + 1e-6 * dy.sign())
        depth = torch.minimum(wall_x, wall_y)
        for p in pillars:
            rel = p - pos
            along = rel[:, :1] * dx + rel[:, 1:] * dy
            miss = (rel[:, :1] * dy - rel[:, 1:] * dx).abs()
            depth = torch.where((along > 0) & (miss < 0.25), torch.minimum(depth, along), depth)
        scans.append(depth / 2 - 0.75 + 0.02 * torch.randn(n, BEAMS, generator=g))
        commands.append(torch.stack([speed * 4 - 1, turn], -1))
    return torch.stack(scans, 1), torch.stack(commands, 1)


class WorldModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(BEAMS, 96), nn.ELU(), nn.Linear(96, 64), nn.ELU())
        self.cell = nn.GRUCell(STOCH + 2, DETER)
        self.prior = nn.Sequential(nn.Linear(DETER, 48), nn.ELU(), nn.Linear(48, 2 * STOCH))
        self.posterior = nn.Sequential(nn.Linear(DETER + 64, 48), nn.ELU(), nn.Linear(48, 2 * STOCH))
        self.decoder = nn.Sequential(nn.Linear(DETER + STOCH, 96), nn.ELU(), nn.Linear(96, BEAMS))

    @staticmethod
    def gaussian(stats):
        mean, raw = stats.chunk(2, -1)
        return Normal(mean, F.softplus(raw) + 0.05)

    def forward(self, scans, commands):
        embed = self.encoder(scans)
        h = scans.new_zeros(len(scans), DETER)
        z = scans.new_zeros(len(scans), STOCH)
        features, kls = [], []
        for t in range(scans.shape[1]):
            h = self.cell(torch.cat([z, commands[:, t]], -1), h)
            prior = self.gaussian(self.prior(h))
            post = self.gaussian(self.posterior(torch.cat([h, embed[:, t]], -1)))
            z = post.rsample()
            kls.append(kl_divergence(post, prior).sum(-1))
            features.append(torch.cat([h, z], -1))
        return self.decoder(torch.stack(features, 1)), torch.stack(kls, 1)


def main():
    torch.manual_seed(8)
    generator = torch.Generator().manual_seed(80)
    scans, commands = rollout(768, generator)
    model = WorldModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, eps=1e-5)
    history = []
    for step in range(200):
        rows = torch.randint(len(scans), (48,))
        predicted, kl = model(scans[rows], commands[rows])
        likelihood = Normal(predicted, 0.5).log_prob(scans[rows])
        reconstruction = -likelihood.mean()
        divergence = kl.mean()
        loss = reconstruction + divergence
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        optimizer.step()
        history.append(F.mse_loss(predicted.detach(), scans[rows]).item())
        if step % 25 == 0:
            print(f"{step:4d} total {loss.item():8.4f} kl {kl.mean().item():8.4f} scan mse {history[-1]:.5f}")
    print(f"final_loss={sum(history[-20:]) / 20}")


if __name__ == "__main__":
    main()
