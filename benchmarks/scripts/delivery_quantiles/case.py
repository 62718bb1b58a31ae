"""Quantile regression of delivery times in seconds: an MLP with three outputs and the pinball loss."""
import torch
import torch.nn as nn

torch.manual_seed(12)
QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def make_orders(n):
    distance = torch.rand(n) * 12
    items = torch.randint(1, 9, (n,)).float()
    hour = torch.rand(n) * 24
    courier = torch.randn(n)
    rush = torch.exp(-((hour - 18.5) / 2.0) ** 2)
    base = 55 + 4.5 * distance + 1.5 * items + 18 * rush - 3 * courier
    minutes = base + (4 + distance) * torch.distributions.Gumbel(0.0, 1.0).sample((n,))
    features = torch.stack([distance / 6 - 1, items / 4 - 1, torch.sin(hour * 0.2618), torch.cos(hour * 0.2618), courier], 1)
    return features, 60 * minutes.clamp_min(40.0)


def pinball(prediction, seconds):
    gap = seconds.unsqueeze(1) - prediction
    return torch.maximum(QUANTILES * gap, (QUANTILES - 1) * gap).sum(1).mean()


def accumulate(model, orders, optimizer=None, size=128):
    x, y = orders
    total = 0.0
    order = torch.randperm(len(x)) if optimizer else torch.arange(len(x))
    for rows in order.split(size):
        with torch.set_grad_enabled(optimizer is not None):
            loss = pinball(model(x[rows]), y[rows])
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * len(rows)
    return total / len(x)


model = nn.Sequential(
    nn.Linear(5, 64), nn.Tanh(),
    nn.Linear(64, 32), nn.Tanh(),
    nn.Linear(32, 3),
)
train, test = make_orders(4096), make_orders(1024)
optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3, alpha=0.9, centered=True)

best, stale = float("inf"), 0
for epoch in range(40):
    fitted = accumulate(model, train, optimizer)
    model.eval()
    checked = accumulate(model, test)
    model.train()
    if checked < best:
        best, stale = checked, 0
    else:
        stale += 1
    if epoch % 4 == 0:
        print(f"epoch {epoch:2d}  pinball {fitted:9.4f} / {checked:9.4f}   best {best:.4f} ({stale} epochs ago)")

print(f"final_loss={checked}")
