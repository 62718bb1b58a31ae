"""Calibration of a differential gauge: predict the reading and its own precision (Gaussian likelihood)."""
import math

import torch
import torch.nn as nn


class Gauge:
    """Reading as a smooth function of temperature, supply voltage and load; repeatability is a few parts in 1e4."""

    def __init__(self, seed):
        self.rng = torch.Generator().manual_seed(seed)

    def truth(self, x):
        t, v, load = x.unbind(1)
        return 0.8 * load + 0.15 * load * t - 0.2 * t * t + 0.1 * torch.sin(3 * v)

    def noise(self, x):
        return 4e-4 * (1 + 1.5 * x[:, 0].abs())

    def measure(self, n):
        x = torch.rand(n, 3, generator=self.rng) * 2 - 1
        y = self.truth(x) + self.noise(x) * torch.randn(n, generator=self.rng)
        return x, y


class Calibration(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.powers = [(i, j, k) for i in range(5) for j in range(8) for k in range(5) if 0 < i + j + k <= 7]
        self.mean = nn.Linear(len(self.powers), 1)
        nn.init.zeros_(self.mean.weight)
        self.log_sigma = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))

    def features(self, x):
        cheb = [torch.ones_like(x), x]
        for _ in range(6):
            cheb.append(2 * x * cheb[-1] - cheb[-2])
        return torch.stack([cheb[i][:, 0] * cheb[j][:, 1] * cheb[k][:, 2] for i, j, k in self.powers], dim=1)

    def forward(self, x):
        return self.mean(self.features(x)).squeeze(1), self.log_sigma(x).squeeze(1)


def nll(mean, log_sigma, y):
    z = (y - mean) * torch.exp(-log_sigma)
    return (0.5 * z * z + log_sigma + 0.5 * math.log(2 * math.pi)).mean()


def main(steps=1400, batch=256):
    torch.manual_seed(2)
    gauge = Gauge(77)
    x_val, y_val = gauge.measure(1000)
    model = Calibration()
    optimizer = torch.optim.Adam([
        {"params": model.mean.parameters(), "lr": 2e-2},
        {"params": model.log_sigma.parameters(), "lr": 4e-3},
    ])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 10 ** (-2.5 * s / steps))
    for step in range(steps):
        x, y = gauge.measure(batch)
        loss = nll(*model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            with torch.no_grad():
                mean, log_sigma = model(x_val)
                val = nll(mean, log_sigma, y_val)
                rms = (mean - y_val).square().mean().sqrt()
                print(f"{step:5d}  nll {loss.item():8.4f}  val {val.item():8.4f}  rms {rms.item():.2e}  "
                      f"sigma {log_sigma.exp().mean().item():.2e}")
    return val.item()


if __name__ == "__main__":
    print(f"final_loss={main()}")
