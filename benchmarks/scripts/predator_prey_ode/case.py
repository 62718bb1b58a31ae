"""Neural ODE on hare-and-lynx style cycles: a learned vector field, integrated by the midpoint rule from the first observation."""
import torch
import torch.nn as nn

torch.manual_seed(12)
DT, HORIZON = 0.15, 50


def midpoint(field, z, steps, dt=DT):
    path = [z]
    for _ in range(steps):
        half = z + 0.5 * dt * field(z)
        z = z + dt * field(half)
        path.append(z)
    return torch.stack(path)


def hare_and_lynx(z):
    hare, lynx = z.unbind(-1)
    return torch.stack([1.1 * hare - 0.4 * hare * lynx, 0.1 * hare * lynx - 0.4 * lynx], dim=-1)


class QuadraticField(nn.Module):
    """dz/dt = A z + z' B z + small network, all learned."""

    def __init__(self, dim=2, hidden=24):
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.pairs = nn.Bilinear(dim, dim, dim, bias=False)
        self.rest = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim))
        for p in (self.linear.weight, self.pairs.weight, self.rest[2].weight):
            nn.init.normal_(p, std=0.02)

    def forward(self, z):
        return self.linear(z) + self.pairs(z, z) + self.rest(z)


start = torch.rand(256, 2) * torch.tensor([8.0, 3.0]) + torch.tensor([4.0, 1.0])
with torch.no_grad():
    truth = midpoint(hare_and_lynx, start, HORIZON)
    level = truth.mean((0, 1))
    truth = truth / level

field = QuadraticField()
trainable = filter(lambda p: p.requires_grad, field.parameters())
optimizer = torch.optim.SGD(trainable, lr=0.016, momentum=0.9)
recent = []

for step in range(170):
    rows = torch.randint(0, 256, (12,))
    seen = truth[:, rows]
    horizon = min(HORIZON, 8 + step // 4)
    path = midpoint(field, seen[0], horizon)
    loss = (path - seen[: horizon + 1]).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trainable, max_norm=0.5)
    optimizer.step()
    recent = (recent + [loss.item()])[-20:]
    if step % 20 == 0:
        print(f"{step:4d}  trajectory error {loss.item():.5f}")

print(f"final_loss={sum(recent) / len(recent)}")
