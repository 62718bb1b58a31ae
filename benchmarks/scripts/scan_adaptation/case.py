"""Adapt a pretrained digit recogniser to inverted, noisy scans while staying near the pretrained weights."""
import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits


@dataclass
class Plan:
    pretrain_epochs: int = 6
    adapt_epochs: int = 28
    batch: int = 60
    trunk_lr: float = 0.04
    head_lr: float = 0.04
    stay: float = 3.0
    seed: int = 41


class Recogniser(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({
            "low": weight_norm(nn.Linear(64, 80)),
            "high": weight_norm(nn.Linear(80, 48)),
            "head": nn.Linear(48, 10),
        })

    def forward(self, x):
        x = torch.tanh(self.parts["low"](x))
        x = torch.tanh(self.parts["high"](x))
        return self.parts["head"](x)


class StayClose:
    """After every update, pull the directions of the trunk towards where they started."""

    def __init__(self, optimizer, strength):
        self.strength = strength
        self.group = optimizer.param_groups[0]
        self.start = [p.detach().clone() for p in self.group["params"]]
        self.handle = optimizer.register_step_post_hook(self)

    @torch.no_grad()
    def __call__(self, optimizer, args, kwargs):
        rate = self.group["lr"] * self.strength
        for p, p0 in zip(self.group["params"], self.start):
            p.add_(p - p0, alpha=rate)


class Runner:
    def __init__(self, model, optimizer, name, report=4):
        self.model, self.optimizer, self.name, self.report = model, optimizer, name, report
        self.criterion = nn.CrossEntropyLoss()

    def epoch(self, loader):
        self.model.train()
        total = 0.0
        for x, y in loader:
            loss = self.criterion(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(loader)

    @torch.inference_mode()
    def score(self, x, y):
        self.model.eval()
        return (self.model(x).argmax(1) == y).float().mean().item()

    def run(self, loader, x, y, epochs):
        for epoch in range(epochs):
            mean = self.epoch(loader)
            if epoch % self.report == 0:
                print(f"{self.name} {epoch:2d}: loss {mean:.4f}, held-out accuracy {self.score(x, y):.3f}")
        return mean


def main(plan=Plan()):
    torch.manual_seed(plan.seed)
    images, labels = load_digits(return_X_y=True)
    clean = torch.tensor(images, dtype=torch.float32) / 16
    scans = 1 - clean + 0.15 * torch.randn_like(clean)
    y = torch.tensor(labels)

    model = Recogniser()
    loader = DataLoader(TensorDataset(clean[:900], y[:900]), plan.batch, shuffle=True)
    Runner(model, torch.optim.Adam(model.parameters(), lr=5e-3), "pretrain", 3).run(loader, clean[900:], y[900:], plan.pretrain_epochs)

    model = copy.deepcopy(model)
    directions = [p for n, p in model.named_parameters() if n.endswith("original1")]
    others = [p for n, p in model.named_parameters() if not n.endswith("original1")]
    optimizer = torch.optim.SGD([{"params": directions, "lr": plan.trunk_lr}, {"params": others, "lr": plan.head_lr}], momentum=0.9)
    StayClose(optimizer, plan.stay)
    loader = DataLoader(TensorDataset(scans[:900], y[:900]), plan.batch, shuffle=True)
    final = Runner(model, optimizer, "adapt").run(loader, scans[900:], y[900:], plan.adapt_epochs)
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
