"""Exercise 5's training: a network that learns for three epochs and dies in the fourth.

Its warm-up has a mistake that is easily made: the learning rate is multiplied by a factor at every
step, and nothing ever stops it. Run as `gainstage run -m gainstage.lab.failing_task`.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

STEPS_PER_EPOCH = 40
EPOCHS = 4


def main() -> None:
    """Train and print the loss of every epoch."""
    parser = argparse.ArgumentParser(description="Learn for three epochs, then die.")
    parser.add_argument("--factor", type=float, default=1.05, help="of the learning rate a step")
    parser.add_argument("--lr", type=float, default=0.001, help="learning rate of the first step")
    args = parser.parse_args()
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
    inputs = torch.randn(STEPS_PER_EPOCH * 32, 16)
    targets = 3 * teacher(inputs).detach()
    model = nn.Sequential(
        nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, args.factor)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(inputs)).split(32):
            loss = nn.functional.mse_loss(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}  loss {total / STEPS_PER_EPOCH:.4f}", flush=True)


if __name__ == "__main__":
    main()
