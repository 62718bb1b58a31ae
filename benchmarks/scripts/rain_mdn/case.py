"""Daily rainfall as a mixture density network (ReLU means: an amount is never negative)."""
import argparse
import math

import torch
from torch import nn


def gauge(days, g):
    """Weather of the day and what the gauge read in millimetres, in steps of 0.2."""
    season = torch.sin(torch.arange(days) * (2 * math.pi / 365))
    humidity = 0.6 + 0.2 * season + 0.12 * torch.randn(days, generator=g)
    pressure = torch.randn(days, generator=g)
    wind = torch.rand(days, generator=g)
    wet = torch.sigmoid(9 * (humidity - 0.65) - 1.3 * pressure)
    rains = torch.rand(days, generator=g) < wet
    amount = 6 * torch.empty(days).exponential_(generator=g) * (0.3 + wet)
    amount = torch.where(rains, amount, torch.zeros(days))
    x = torch.stack([season, (humidity - 0.6) / 0.2, pressure, wind - 0.5], 1)
    return x, (amount / 0.2).round() * 0.2


class MixtureNet(nn.Module):
    def __init__(self, inputs, hidden, parts):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU())
        self.weight = nn.Linear(hidden, parts)
        self.mean = nn.Linear(hidden, parts)
        self.log_sigma = nn.Linear(hidden, parts)
        with torch.no_grad():
            self.mean.bias.copy_(torch.linspace(0, 6, parts))

    def forward(self, x):
        h = self.trunk(x)
        return self.weight(h).log_softmax(1), self.mean(h).relu(), self.log_sigma(h)


def negative_log_likelihood(parts, y):
    log_w, mean, log_sigma = parts
    z = (y[:, None] - mean) * torch.exp(-log_sigma)
    log_prob = -0.5 * z.pow(2) - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_w + log_prob, dim=1).mean()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--parts", type=int, default=3)
    p.add_argument("--hidden", type=int, default=48)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--epochs", type=int, default=14)
    p.add_argument("--seed", type=int, default=31)
    args = p.parse_args()

    torch.manual_seed(args.seed)
    g = torch.Generator().manual_seed(args.seed)
    x, y = gauge(4600, g)
    x_val, y_val, x, y = x[4096:], y[4096:], x[:4096], y[:4096]
    net = MixtureNet(x.shape[1], args.hidden, args.parts)
    opt = torch.optim.Adam(net.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        net.train()
        order = torch.randperm(len(x), generator=g)
        for rows in order.split(args.batch):
            loss = negative_log_likelihood(net(x[rows]), y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
        net.eval()
        with torch.no_grad():
            held_out = negative_log_likelihood(net(x_val), y_val)
        print(f"epoch {epoch:2d} train {loss.item():9.3f} held out {held_out.item():9.3f}")
    print(f"final_loss={loss.item()}")


if __name__ == "__main__":
    main()
