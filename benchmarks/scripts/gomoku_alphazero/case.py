"""AlphaZero-style policy/value network for 7x7 gomoku, distilled from a hand-written threat evaluator."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

SIZE, SQUARES = 7, 49


@dataclass
class Config:
    width: int = 24
    blocks: int = 3
    positions: int = 6000
    batch: int = 80
    steps: int = 125
    schedule: tuple = ((0, 2e-3), (45, 2e-1), (100, 2e-2))
    weight_decay: float = 0.01
    value_weight: float = 0.5
    seed: int = 21

    def lr(self, step):
        return [rate for start, rate in self.schedule if step >= start][-1]


def line_kernels():
    k = torch.zeros(4, 1, 5, 5)
    for i in range(5):
        k[0, 0, 2, i] = k[1, 0, i, 2] = k[2, 0, i, i] = k[3, 0, i, 4 - i] = 1
    return k


def make_positions(n, gen):
    stones = torch.randint(6, 24, (n, 1), generator=gen)
    order = torch.rand(n, SQUARES, generator=gen).argsort(1).argsort(1)
    board = torch.where(order < stones, torch.where(order % 2 == 0, 1, -1), 0).view(n, 1, SIZE, SIZE)
    kernels = line_kernels()
    own = F.conv2d((board == 1).float(), kernels, padding=2)
    opp = F.conv2d((board == -1).float(), kernels, padding=2)
    threat = (own.pow(2) + 0.8 * opp.pow(2)).sum(1).flatten(1)
    best = threat.masked_fill(board.flatten(1) != 0, -1.0).argmax(1)
    value = (own.pow(2).sum((1, 2, 3)) - opp.pow(2).sum((1, 2, 3))) / 40
    planes = torch.cat([board == 1, board == -1, board == 0], 1).float()
    return planes, best, value


class ResBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class PolicyValueNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, cfg.width, 3, padding=1, bias=False), nn.BatchNorm2d(cfg.width), nn.ReLU()
        )
        self.tower = nn.Sequential(*(ResBlock(cfg.width) for _ in range(cfg.blocks)))
        self.policy = nn.Sequential(
            nn.Conv2d(cfg.width, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * SQUARES, SQUARES)
        )
        self.value = nn.Sequential(
            nn.Conv2d(cfg.width, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(),
            nn.Linear(2 * SQUARES, 32), nn.ReLU(), nn.Linear(32, 1),
        )

    def forward(self, planes):
        x = self.tower(self.stem(planes))
        return self.policy(x), self.value(x).squeeze(-1)


def train(cfg):
    torch.manual_seed(cfg.seed)
    gen = torch.Generator().manual_seed(cfg.seed)
    boards, moves, values = make_positions(cfg.positions, gen)
    net = PolicyValueNet(cfg)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.lr(0), weight_decay=cfg.weight_decay)
    history = []
    for step in range(cfg.steps):
        idx = torch.randint(cfg.positions, (cfg.batch,), generator=gen)
        logits, value = net(boards[idx])
        policy_loss = F.cross_entropy(logits, moves[idx])
        value_loss = F.mse_loss(value, values[idx])
        loss = policy_loss + cfg.value_weight * value_loss
        for group in optimizer.param_groups:
            group["lr"] = cfg.lr(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
        if step % 12 == 0:
            print(f"step {step:3d} policy {policy_loss.item():.3f} value {value_loss.item():.3f}")
    return sum(history[-20:]) / 20


if __name__ == "__main__":
    print(f"final_loss={train(Config())}")
