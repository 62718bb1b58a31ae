"""Surrogate of a nonlinear heat equation: from the temperature profile at t=0 to the one at t=T."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SEED = 77
POINTS = 64
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)


def solve(u, steps=160, dt=0.1):
    """Explicit scheme with a conductivity that depends on the temperature, periodic boundary."""
    for _ in range(steps):
        k = 0.5 + 0.5 * np.tanh(u)
        right = (np.roll(u, -1, 1) - u) * 0.5 * (k + np.roll(k, -1, 1))
        u = u + dt * (right - np.roll(right, 1, 1)) * 4.0
    return u


def make(n):
    grid = np.arange(POINTS) / POINTS * 2 * np.pi
    modes = np.arange(1, 9)
    amp = rng.normal(size=(n, 8)) / modes ** 0.5
    phase = rng.uniform(0, 2 * np.pi, size=(n, 8))
    u0 = (amp[..., None] * np.cos(modes[:, None] * grid + phase[..., None])).sum(1)
    return torch.tensor(u0, dtype=torch.float32), torch.tensor(solve(u0), dtype=torch.float32)


class CircularBlock(nn.Module):
    def __init__(self, width, kernel=9):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, padding_mode="circular")
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x):
        return x + self.mix(F.softplus(self.conv(x)))


class Surrogate(nn.Module):
    def __init__(self, width=24, depth=3):
        super().__init__()
        self.lift = nn.Conv1d(1, width, 1)
        self.blocks = nn.Sequential(*[CircularBlock(width) for _ in range(depth)])
        self.project = nn.Conv1d(width, 1, 1)

    def forward(self, u):
        return self.project(self.blocks(self.lift(u[:, None]))).squeeze(1)


train_set = TensorDataset(*make(1536))
test_u0, test_uT = make(256)
loader = DataLoader(train_set, batch_size=64, shuffle=True)

epochs = 11
net = Surrogate()
opt = torch.optim.SGD(net.parameters(), lr=0.01, nesterov=True, momentum=0.9, weight_decay=1e-5)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.08, total_steps=epochs * len(loader),
                                            pct_start=0.6, cycle_momentum=False, div_factor=100.0)

for epoch in range(epochs):
    net.train()
    running = 0.0
    for u0, uT in loader:
        loss = F.mse_loss(net(u0), uT)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        running += loss.item() / len(loader)
    net.eval()
    with torch.no_grad():
        test_loss = F.mse_loss(net(test_u0), test_uT).item()
    print(f"{epoch:2d}  lr {sched.get_last_lr()[0]:.4f}  train {running:.5f}  test {test_loss:.5f}")

print(f"final_loss={test_loss}")
