"""Hybrid exponential-smoothing / MLP forecaster: weekly-seasonal sales of many stores, one week ahead."""
import math

import torch
from torch import nn

torch.manual_seed(23)

STORES, DAYS, WINDOW, HORIZON = 30, 420, 28, 7


def simulate():
    t = torch.arange(DAYS, dtype=torch.float32)
    size = torch.exp(torch.randn(STORES, 1) * 0.5 + 4.0)
    trend = 1.0 + 0.3 * torch.sin(2 * math.pi * (t / 300 + torch.rand(STORES, 1)))
    week = torch.softmax(torch.randn(STORES, 7), dim=1) * 7
    season = week[:, (t.long() % 7)]
    sales = size * trend * season
    return (sales * torch.exp(0.08 * torch.randn(STORES, DAYS))).clamp(min=0.5)


class Forecaster(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WINDOW, hidden), nn.ReLU(),
                                 nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, HORIZON))

    def forward(self, x):
        return self.net(x)


class SeriesParameters:
    """Level and weekday factors of each store, kept in log space."""

    def __init__(self):
        self.level = nn.Parameter(torch.full((STORES,), 4.0))
        self.weekday = nn.Parameter(torch.zeros(STORES, 7))

    def parameters(self):
        return [self.level, self.weekday]

    def __call__(self, store, days):
        return self.level[store, None] + self.weekday[store[:, None], days % 7]


sales = simulate().log()
train_end = DAYS - 56
model, series = Forecaster(), SeriesParameters()
optimizer = torch.optim.SGD(list(model.parameters()) + series.parameters(), lr=0.05, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=500, gamma=0.5)


def windows(store, start):
    past = start[:, None] + torch.arange(WINDOW)
    future = start[:, None] + WINDOW + torch.arange(HORIZON)
    return past, future


def forecast(store, past, future):
    residual = sales[store[:, None], past] - series(store, past)
    return series(store, future) + model(residual)


def evaluate():
    errors = []
    with torch.no_grad():
        for start in range(train_end - WINDOW, DAYS - WINDOW - HORIZON + 1, HORIZON):
            store = torch.arange(STORES)
            past, future = windows(store, torch.full((STORES,), start))
            errors.append((forecast(store, past, future) - sales[store[:, None], future]).abs().mean())
    return torch.stack(errors).mean().item()


for step in range(1500):
    store = torch.randint(0, STORES, (64,))
    past, future = windows(store, torch.randint(0, train_end - WINDOW - HORIZON, (64,)))
    target = sales[store[:, None], future]
    loss = nn.functional.mse_loss(forecast(store, past, future), target)

    model.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 150 == 0:
        print(f"step {step:4d}  loss {loss.item():.4f}  held-out error {evaluate():.4f}")

print(f"final_loss={evaluate()}")
