"""Leaf outlines (synthetic 20x20 images, eight species): snapshot ensemble over cosine cycles with warm restarts."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIZE, SPECIES, CYCLES, EPOCHS = 20, 8, 5, 2
LOBES = [(0, 0.0), (2, 0.25), (3, 0.25), (4, 0.25), (5, 0.25), (3, 0.5), (5, 0.5), (7, 0.3)]


def leaves(n, rng, mislabelled=0.0):
    grid = (np.arange(SIZE) - (SIZE - 1) / 2) / (SIZE / 2)
    xx, yy = np.meshgrid(grid, grid)
    label = rng.integers(0, SPECIES, n)
    images = np.empty((n, SIZE, SIZE), np.float32)
    for i, species in enumerate(label):
        lobes, depth = LOBES[species]
        dx, dy = rng.normal(0, 0.08, 2)
        radius, angle = np.hypot(xx - dx, yy - dy), np.arctan2(yy - dy, xx - dx)
        edge = rng.uniform(0.5, 0.75) * (1 + depth * np.cos(lobes * (angle - rng.uniform(-0.4, 0.4))))
        images[i] = 1 / (1 + np.exp(np.clip((radius - edge) * 14, -30, 30)))
    images += rng.normal(0, 0.1, images.shape)
    wrong = rng.random(n) < mislabelled
    label[wrong] = rng.integers(0, SPECIES, wrong.sum())
    return torch.from_numpy(images[:, None]), torch.from_numpy(label)


class LeafNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        def block(a, b):
            return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.features = nn.Sequential(block(1, width), block(width, 2 * width))
        self.head = nn.Linear(2 * width * 25, SPECIES)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


def focal(logits, target, gamma=1.0):
    logp = F.log_softmax(logits, dim=1).gather(1, target[:, None]).squeeze(1)
    return (-(1 - logp.exp()).pow(gamma) * logp).mean()


torch.manual_seed(19)
rng = np.random.default_rng(19)
train_set = TensorDataset(*leaves(2400, rng, mislabelled=0.004))
x_test, y_test = leaves(800, rng)
loader = DataLoader(train_set, batch_size=60, shuffle=True, drop_last=True)

net = LeafNet()
opt = torch.optim.SGD(net.parameters(), lr=0.06, momentum=0.9, nesterov=True)
per_cycle = EPOCHS * len(loader)
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=per_cycle, eta_min=1e-4)

ensemble = torch.zeros(len(x_test), SPECIES)
for cycle in range(CYCLES):
    for epoch in range(EPOCHS):
        net.train()
        history = []
        for x, y in loader:
            loss = focal(net(x), y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            sched.step()
            history.append(loss.item())
        print(f"cycle {cycle} epoch {epoch}  first {history[0]:.3f}  max {max(history):.3f}  last {history[-1]:.3f}")
    net.eval()
    with torch.no_grad():
        logits = net(x_test)
        ensemble += logits.softmax(dim=1) / CYCLES
        print(f"  snapshot accuracy {(logits.argmax(1) == y_test).float().mean():.4f}")

final = F.nll_loss(ensemble.clamp_min(1e-12).log(), y_test).item()
print(f"ensemble accuracy {(ensemble.argmax(1) == y_test).float().mean():.4f}")
print(f"final_loss={final}")
