"""Q-learning for a battery that buys and sells on an hourly price; impossible actions are masked with -inf
and the bootstrap target comes from a slowly moving copy of the network."""
import copy
import math

import torch
from torch import nn

IDLE, BUY, SELL = 0, 1, 2
CAPACITY, GAMMA, TAU = 4, 0.98, 0.02


class Market:
    """Many batteries side by side: hour of the day, charge, and a noisy price around a daily curve."""

    def __init__(self, n, seed):
        self.g = torch.Generator().manual_seed(seed)
        self.hour = torch.randint(0, 24, (n,), generator=self.g)
        self.charge = torch.randint(0, CAPACITY + 1, (n,), generator=self.g)
        self.draw_price()

    def draw_price(self):
        curve = 3 - 2 * torch.cos((self.hour - 4) * (2 * math.pi / 12))
        self.price = curve + 0.4 * torch.randn(len(self.hour), generator=self.g)

    def observe(self):
        angle = self.hour * (2 * math.pi / 24)
        levels = nn.functional.one_hot(self.charge, CAPACITY + 1).float()
        return torch.cat([torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos(), self.price - 3], 1), levels], 1)

    def forbidden(self):
        mask = torch.zeros(len(self.hour), 3, dtype=torch.bool)
        mask[:, BUY] = self.charge == CAPACITY
        mask[:, SELL] = self.charge == 0
        return mask

    def step(self, action):
        reward = torch.where(action == SELL, self.price * 0.95, torch.where(action == BUY, -self.price, torch.zeros(())))
        self.charge = self.charge + (action == BUY).long() - (action == SELL).long()
        self.hour = (self.hour + 1) % 24
        self.draw_price()
        return reward


class Replay:
    def __init__(self, capacity):
        self.parts, self.capacity = [], capacity

    def add(self, *columns):
        self.parts = (self.parts + [columns])[-self.capacity:]

    def sample(self, n):
        columns = [torch.cat(c) for c in zip(*self.parts)]
        rows = torch.randint(0, len(columns[0]), (n,))
        return [c[rows] for c in columns]


def masked(q, forbidden):
    return q.masked_fill(forbidden, float("-inf"))


@torch.no_grad()
def follow(target, online):
    for slow, fast in zip(target.parameters(), online.parameters()):
        slow.lerp_(fast, TAU)


def evaluate(net, seed, hours=240):
    market, earned = Market(64, seed), 0.0
    with torch.no_grad():
        for _ in range(hours):
            earned += market.step(masked(net(market.observe()), market.forbidden()).argmax(1)).mean().item()
    return earned / hours * 24


def main():
    torch.manual_seed(2)
    online = nn.Sequential(nn.Linear(10, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 3))
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3)
    market, replay, losses = Market(32, seed=2), Replay(200), []

    for update in range(1200):
        epsilon = max(0.1, 1 - update / 500)
        with torch.no_grad():
            obs, mask = market.observe(), market.forbidden()
            greedy = masked(online(obs), mask).argmax(1)
            anything = masked(torch.rand(len(obs), 3), mask).argmax(1)
            action = torch.where(torch.rand(len(obs)) < epsilon, anything, greedy)
            reward = market.step(action)
            replay.add(obs, action, reward, market.observe(), market.forbidden())

        obs, action, reward, following, mask = replay.sample(128)
        with torch.no_grad():
            goal = reward + GAMMA * masked(target(following), mask).amax(1)
        q = online(obs).gather(1, action[:, None]).squeeze(1)
        loss = (q - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        follow(target, online)
        losses.append(loss.item())
        if update % 100 == 0:
            print(f"update {update:4d} loss {losses[-1]:7.3f} mean value {q.mean().item():7.2f} profit a day {evaluate(online, 9):6.2f}")
    print(f"profit a day {evaluate(online, 10, 480):.2f}")
    print(f"final_loss={sum(losses[-50:]) / 50}")


if __name__ == "__main__":
    main()
