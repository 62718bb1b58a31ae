"""Weekly demand for spare parts, four weeks ahead. Slow and fast movers share one network, so every window
is brought to its own level and spread first, and errors are counted in these units."""
import torch
from torch import nn

HISTORY, HORIZON = 26, 4


class PerWindow(nn.Module):
    """Reversible normalisation of a window by its own statistics."""

    def __init__(self, eps=1e-6):
        super().__init__()
        self.eps = eps

    def fit(self, past):
        self.level = past.mean(dim=1, keepdim=True)
        self.spread = past.std(dim=1, keepdim=True) + self.eps

    def forward(self, x):
        return (x - self.level) / self.spread

    def back(self, z):
        return z * self.spread + self.level


class Mixer(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.scale = PerWindow()
        self.trend = nn.Linear(HISTORY, HORIZON)
        self.detail = nn.Sequential(nn.Linear(HISTORY, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                    nn.Linear(hidden, HORIZON))

    def forward(self, past):
        self.scale.fit(past)
        z = self.scale(past)
        return self.trend(z) + self.detail(z)


def simulate(parts=400, weeks=156):
    g = torch.Generator().manual_seed(8)
    rate = torch.exp(torch.empty(parts).uniform_(0.9, 5.0, generator=g))
    week = torch.arange(weeks).float()
    phase = torch.rand(parts, 1, generator=g) * 52
    wave = 1 + 0.6 * torch.sin(2 * torch.pi * (week + phase) / 52)
    demand = torch.poisson(rate[:, None] * wave, generator=g)
    for part in (188, 352):
        demand[part] = 0.0
        demand[part, -60::13] = torch.tensor([0.0, 0.0, 0.0, 12.0, 0.0])
    return demand


def sample(demand, n, last):
    part = torch.randint(0, len(demand), (n,))
    start = torch.randint(0, last - HISTORY - HORIZON, (n,))
    index = start[:, None] + torch.arange(HISTORY + HORIZON)
    block = demand[part[:, None], index]
    return block[:, :HISTORY], block[:, HISTORY:]


torch.manual_seed(15)
demand = simulate()
cut = demand.shape[1] - 4
model = Mixer()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [600, 900], gamma=0.3)

recent = []
for step in range(1200):
    past, future = sample(demand, 48, cut)
    predicted = model(past)
    loss = (predicted - model.scale(future)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    recent = (recent + [loss.item()])[-50:]
    if step % 100 == 0:
        with torch.no_grad():
            past, future = sample(demand[:60], 256, demand.shape[1])
            units = (model.scale.back(model(past)) - future).abs().mean()
        print(f"step {step:4d}  loss {loss.item():.4f}  absolute error {units.item():.3f} pieces")

print(f"final_loss={sum(recent) / len(recent)}")
