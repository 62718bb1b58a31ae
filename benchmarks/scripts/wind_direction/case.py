"""Predict the wind direction two hours ahead from the vectors measured at 24 stations."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HOURS, STATIONS, HISTORY = 6000, 24, 4


def synthetic_weather(generator):
    """East and north components of the wind at every station, hour by hour."""
    angle = torch.cumsum(0.12 * torch.randn(HOURS, generator=generator), 0)
    speed = 4 + 3 * torch.sin(torch.arange(HOURS) / 37.0) + torch.rand(HOURS, generator=generator)
    gust = 1 + 0.2 * torch.randn(HOURS, STATIONS, generator=generator)
    turn = angle[:, None] + 0.25 * torch.randn(HOURS, STATIONS, generator=generator)
    wind = torch.stack([turn.cos(), turn.sin()], -1) * (speed[:, None] * gust).unsqueeze(-1)
    # anemometers report zero below their starting speed
    still = speed < 1.4
    wind[still] = 0.0
    return wind, angle


class VectorNet(nn.Module):
    """Rotation-friendly: no bias anywhere, the answer is the angle of a weighted sum of winds."""

    def __init__(self, inputs, width=48):
        super().__init__()
        self.down = nn.Linear(inputs, width, bias=False)
        self.act = nn.Tanh()
        self.up = nn.Linear(width, 2, bias=False)
        self.skip = nn.Linear(inputs, 2, bias=False)

    def forward(self, x):
        x = x.flatten(1)
        east, north = (self.up(self.act(self.down(x))) + self.skip(x)).unbind(-1)
        return torch.atan2(north, east)


def circular_loss(predicted, actual):
    return (1 - torch.cos(predicted - actual)).mean()


def windows(wind, angle):
    x = torch.stack([wind[i:HOURS - HISTORY - 2 + i] for i in range(HISTORY)], 1)
    y = angle[HISTORY + 1:HOURS - 1]
    return x, torch.remainder(y, 2 * math.pi)


def main():
    torch.manual_seed(31)
    g = torch.Generator().manual_seed(8)
    wind, angle = synthetic_weather(g)
    x, y = windows(wind, angle)
    cut = int(0.85 * len(x))
    train = DataLoader(TensorDataset(x[:cut], y[:cut]), batch_size=32, shuffle=True, generator=g)
    x_val, y_val = x[cut:], y[cut:]

    net = VectorNet(HISTORY * STATIONS * 2)
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    for epoch in range(5):
        net.train()
        total = 0.0
        for xb, yb in train:
            opt.zero_grad(set_to_none=True)
            loss = circular_loss(net(xb), yb)
            loss.backward()
            opt.step()
            total += loss.item() * len(xb)
        net.eval()
        with torch.no_grad():
            val = circular_loss(net(x_val), y_val).item()
        print(f"epoch {epoch}: train {total / cut:.4f}, validation {val:.4f}")
    print(f"final_loss={val}")


if __name__ == "__main__":
    main()
