"""MoCo-style pre-training on scikit-learn digits: growing negative queue, learnable logit scale, warm restarts."""
import copy
import math

import torch
from torch import nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Queue:
    """FIFO of past keys; starts empty and fills up as training proceeds."""

    def __init__(self, dim, capacity):
        self.keys, self.capacity = torch.empty(0, dim), capacity

    def push(self, keys):
        self.keys = torch.cat([keys, self.keys])[: self.capacity]


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 16, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


class MoCo(nn.Module):
    def __init__(self, capacity=1024, momentum=0.97):
        super().__init__()
        self.query = Encoder()
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(3.0)))
        self.queue, self.momentum = Queue(32, capacity), momentum

    def forward(self, view_a, view_b, owner, owners):
        q = self.query(view_a)
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.query.parameters()):
                slow.lerp_(fast, 1 - self.momentum)
            k = self.key(view_b)
        positive = (q * k).sum(1, keepdim=True)
        negative = q @ torch.cat([k, self.queue.keys]).T
        same = owner[:, None] == torch.cat([owner, owners])[None]
        scale = self.log_scale.exp().clamp(max=30)
        logits = torch.cat([positive * scale, (negative * scale).masked_fill(same, -torch.inf)], 1)
        self.queue.push(k)
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def jitter(x):
    angle = (torch.rand(len(x)) - 0.5) * 0.5
    zoom = 1 + 0.2 * (torch.rand(len(x)) - 0.5)
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    shift = 0.25 * (torch.rand(len(x), 2) - 0.5)
    theta = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    warped = F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False), align_corners=False)
    return warped * (0.8 + 0.4 * torch.rand(len(x), 1, 1, 1)) + 0.05 * torch.randn_like(x)


torch.manual_seed(21)
images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
model = MoCo()
optimizer = torch.optim.Adam([
    {"params": model.query.parameters(), "lr": 3e-3},
    {"params": [model.log_scale], "lr": 2e-2}])
schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=130, T_mult=1, eta_min=1e-5)
owners = torch.empty(0, dtype=torch.long)
log = []
for step in range(420):
    batch = torch.randperm(len(images))[:32]
    loss = model(jitter(images[batch]), jitter(images[batch]), batch, owners)
    owners = torch.cat([batch, owners])[:1024]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    log.append(loss.item())
    if step % 30 == 29:
        print(f"{step + 1:4d} loss {sum(log[-30:]) / 30:.3f} scale {model.log_scale.exp().item():.1f} negatives {len(owners)} lr {schedule.get_last_lr()[0]:.1e}")

print(f"final_loss={sum(log[-30:]) / 30}")
