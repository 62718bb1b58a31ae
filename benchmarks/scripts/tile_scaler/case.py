"""Classify small texture tiles (stripes, checks, rings, blobs, noise) with a bfloat16 autocast ConvNet."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset, random_split

CLASSES = ["stripes", "checks", "rings", "blobs", "noise"]
CONFIG = dict(size=20, samples=1500, batch=50, epochs=6, lr=0.05, momentum=0.9, clip=1.0, seed=31)


def tile(kind, size):
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    f = 4 + 6 * torch.rand(())
    a = math.pi * torch.rand(())
    u, v = x * a.cos() + y * a.sin(), y * a.cos() - x * a.sin()
    if kind == 0:
        img = torch.sin(f * u)
    elif kind == 1:
        img = torch.sign(torch.sin(f * u) * torch.sin(f * v))
    elif kind == 2:
        img = torch.sin(2 * f * (u ** 2 + v ** 2).sqrt())
    elif kind == 3:
        img = F.avg_pool2d(torch.randn(1, 1, size + 4, size + 4), 5, 1)[0, 0] * 5
    else:
        img = torch.randn(size, size)
    return (img + 0.5 * torch.randn(size, size)).unsqueeze(0)


def dataset(n, size):
    labels = torch.randint(len(CLASSES), (n,))
    return TensorDataset(torch.stack([tile(int(k), size) for k in labels]), labels)


def network():
    def stage(a, b):
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(stage(1, 12), stage(12, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(24, len(CLASSES)))


def train_epoch(model, loader, optimizer, scaler, scheduler, max_norm):
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        scaler.scale(loss).backward()
        clip_grad_norm_(model.parameters(), max_norm)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss = correct = n = 0
    for images, labels in loader:
        logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(1) == labels).sum().item()
        n += len(labels)
    return loss / n, correct / n


def main(cfg):
    torch.manual_seed(cfg["seed"])
    train, valid = random_split(dataset(cfg["samples"], cfg["size"]), [0.8, 0.2])
    train_loader = DataLoader(train, cfg["batch"], shuffle=True)
    valid_loader = DataLoader(valid, 100)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg["lr"], momentum=cfg["momentum"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg["epochs"] * len(train_loader))
    scaler = torch.amp.GradScaler("cpu")
    for epoch in range(cfg["epochs"]):
        loss = train_epoch(model, train_loader, optimizer, scaler, scheduler, cfg["clip"])
        valid_loss, accuracy = validate(model, valid_loader)
        print(f"epoch {epoch}: train {loss:.4f}  valid {valid_loss:.4f}  accuracy {accuracy:.3f}  "
              f"scale {scaler.get_scale():.0f}")
    print(f"final_loss={valid_loss}")


if __name__ == "__main__":
    main(CONFIG)
