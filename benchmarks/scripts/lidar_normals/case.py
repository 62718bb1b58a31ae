"""Surface normals from lidar neighbourhoods: a small PointNet weighs the neighbours, a weighted plane fit does the rest."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    seed: int = 23
    terrain_points: int = 900
    stray_rate: float = 4e-4
    queries: int = 48
    radius: float = 0.45
    k: int = 20
    width: int = 48
    lr: float = 2e-3
    steps: int = 260


cfg = Config()
torch.manual_seed(cfg.seed)


def simulate_scan():
    """Rolling terrain with range noise and vegetation clutter; normals come from the simulator."""
    xy = torch.rand(cfg.terrain_points, 2) * 4 - 2
    a, b = torch.rand(2) * 1.5 + 0.5
    ph = torch.rand(2) * 6.28
    z = 0.4 * torch.sin(a * xy[:, 0] + ph[0]) + 0.3 * torch.cos(b * xy[:, 1] + ph[1])
    nx = -0.4 * a * torch.cos(a * xy[:, 0] + ph[0])
    ny = 0.3 * b * torch.sin(b * xy[:, 1] + ph[1])
    normal = F.normalize(torch.stack([nx, ny, torch.ones_like(nx)], 1), dim=1)
    pts = torch.cat([xy, z[:, None]], 1) + 0.01 * torch.randn(len(xy), 3)
    clutter = torch.rand(len(xy)) < 0.25
    pts[clutter, 2] += 0.05 + 0.3 * torch.rand(int(clutter.sum()))
    airborne = torch.rand(len(xy)) < cfg.stray_rate
    pts[airborne, 2] += 3 + 5 * torch.rand(int(airborne.sum()))
    return pts, normal


def ball_query(points, centres, radius, k):
    dist = torch.cdist(centres, points)
    order = dist.argsort(dim=1)[:, :k]
    inside = dist.gather(1, order) <= radius
    return torch.where(inside, order, order[:, :1])


class NeighbourWeights(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.local = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.score = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, patch):
        h = self.local(patch)
        pooled = h.max(dim=1, keepdim=True).values.expand_as(h)
        return torch.sigmoid(self.score(torch.cat([h, pooled], -1)))


class PlaneFit(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weights = NeighbourWeights(width)

    def forward(self, patch):
        w = self.weights(patch / cfg.radius)
        w = w / (w.sum(dim=1, keepdim=True) + 1e-6)
        centred = patch - (w * patch).sum(dim=1, keepdim=True)
        cov = torch.einsum("bkl,bki,bkj->bij", w, centred, centred)
        _, vectors = torch.linalg.eigh(cov)
        return vectors[:, :, 0]


model = PlaneFit(cfg.width)
opt = torch.optim.Adam(model.parameters(), lr=cfg.lr)
history, failed = [], 0

for step in range(cfg.steps):
    scan, normals = simulate_scan()
    interior = torch.nonzero(scan[:, :2].abs().amax(1) < 1.6).squeeze(1)
    pick = interior[torch.randperm(len(interior))[: cfg.queries]]
    neighbours = ball_query(scan, scan[pick], cfg.radius, cfg.k)
    patches = scan[neighbours] - scan[pick][:, None]
    try:
        predicted = model(patches)
    except torch.linalg.LinAlgError:
        failed += 1
        history.append(float("nan"))
        continue
    cosine = (predicted * normals[pick]).sum(1)
    loss = (1 - cosine.pow(2)).mean()
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    history.append(loss.item())
    if step % 40 == 39:
        print(f"step {step + 1}: sin^2 of angular error {sum(history[-40:]) / 40:.4f}, {failed} fits failed")

print(f"final_loss={sum(history[-30:]) / 30}")
