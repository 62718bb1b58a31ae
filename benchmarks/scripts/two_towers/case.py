"""Retrieval with two towers: users and items on the unit sphere, in-batch pairs as strangers."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    users: int = 500
    items: int = 700
    traits: int = 10
    dim: int = 24
    batch: int = 128
    steps: int = 400
    lr: float = 0.002
    seed: int = 33


class World:
    """Tastes are hidden; what is seen of users and items are noisy questionnaires and descriptions."""

    def __init__(self, cfg):
        g = torch.Generator().manual_seed(cfg.seed)
        taste = F.normalize(torch.randn(cfg.users, cfg.traits, generator=g), dim=1)
        kind = F.normalize(torch.randn(cfg.items, cfg.traits, generator=g), dim=1)
        self.g, self.cfg = g, cfg
        self.users = taste @ torch.randn(cfg.traits, 32, generator=g) + 0.1 * torch.randn(cfg.users, 32, generator=g)
        self.items = kind @ torch.randn(cfg.traits, 40, generator=g) + 0.1 * torch.randn(cfg.items, 40, generator=g)
        self.chance = torch.softmax(12 * taste @ kind.T, dim=1)

    def clicks(self, n):
        user = torch.randint(0, self.cfg.users, (n,), generator=self.g)
        item = torch.multinomial(self.chance[user], 1, generator=self.g).squeeze(1)
        return user, item


class Tower(nn.Module):
    def __init__(self, n_in, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)


class Retrieval(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.user, self.item = Tower(32, cfg.dim), Tower(40, cfg.dim)
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, user_x, item_x):
        similarity = self.user(user_x) @ self.item(item_x).T
        return similarity * self.log_scale.exp()


def contrast(scores):
    """Own item up, strangers down."""
    own = scores.diagonal().mean()
    strangers = (scores.sum() - scores.diagonal().sum()) / (scores.numel() - len(scores))
    return strangers - own


@torch.no_grad()
def rank_loss(model, world, sample):
    """Mean normalised rank of the clicked item among all items."""
    user, item = sample
    scores = model(world.users[user], world.items)
    own = scores.gather(1, item[:, None])
    return 1 - (own > scores).float().mean().item()


def run(cfg):
    torch.manual_seed(cfg.seed)
    world = World(cfg)
    held_out = world.clicks(400)
    model = Retrieval(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=0.9)
    for step in range(cfg.steps):
        user, item = world.clicks(cfg.batch)
        loss = contrast(model(world.users[user], world.items[item]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            print(f"{step:4d}  loss {loss.item():.4f}  rank {rank_loss(model, world, held_out):.4f}")
    return rank_loss(model, world, held_out)


if __name__ == "__main__":
    print(f"final_loss={run(Config())}")
