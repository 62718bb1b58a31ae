"""Predict repair cost of insured machines from telemetry; memory-saving activations and checkpointed blocks."""
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@dataclass
class Config:
    rows: int = 4096
    features: int = 12
    width: int = 96
    blocks: int = 4
    batch_size: int = 64
    epochs: int = 5
    lr: float = 2e-3
    seed: int = 31


class GateFunction(torch.autograd.Function):
    """x * sigmoid(x), keeping only the input for the backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        e = torch.exp(x)
        s = e / (1 + e)
        return grad * (s + x * s * (1 - s))


class Gate(nn.Module):
    def forward(self, x):
        return GateFunction.apply(x)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.lift = nn.Linear(width, 2 * width)
        self.gate = Gate()
        self.drop = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + 0.5 * self.drop(self.gate(self.lift(self.norm(x))))


class CostModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(cfg.features, cfg.width), Gate())
        self.blocks = nn.ModuleList(Block(cfg.width) for _ in range(cfg.blocks))
        self.head = nn.Linear(cfg.width, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.head(x).squeeze(-1)


class Callback:
    def on_fit_begin(self, trainer): pass
    def on_batch_end(self, trainer): pass
    def on_epoch_end(self, trainer): pass


class Progress(Callback):
    def on_epoch_end(self, trainer):
        print(f"epoch {trainer.epoch}: train {trainer.mean_loss:.4f} valid {trainer.evaluate():.4f}")


class CosineRate(Callback):
    def on_fit_begin(self, trainer):
        steps = trainer.cfg.epochs * len(trainer.order.split(trainer.cfg.batch_size))
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, steps)

    def on_batch_end(self, trainer):
        self.schedule.step()


class Trainer:
    def __init__(self, cfg, model, data, callbacks):
        self.cfg, self.model, self.callbacks = cfg, model, callbacks
        self.x, self.y, self.vx, self.vy = data
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
        self.order = torch.randperm(len(self.x))
        self.epoch, self.losses = 0, []

    def fire(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        value = nn.functional.huber_loss(self.model(self.vx), self.vy).item()
        self.model.train()
        return value

    @property
    def mean_loss(self):
        return sum(self.losses) / len(self.losses)

    def fit(self):
        self.fire("on_fit_begin")
        for self.epoch in range(self.cfg.epochs):
            self.losses = []
            for rows in self.order.split(self.cfg.batch_size):
                loss = nn.functional.huber_loss(self.model(self.x[rows]), self.y[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.losses.append(loss.item())
                self.fire("on_batch_end")
            self.fire("on_epoch_end")
            self.order = torch.randperm(len(self.x))
        return self.mean_loss


def telemetry(cfg):
    n = cfg.rows + 512
    base = torch.randn(n, cfg.features)
    hours = torch.distributions.StudentT(1.5).sample((n, 3)).abs()
    x = torch.cat([base[:, 3:], hours], dim=1)
    cost = torch.sin(base[:, 3]) + 0.5 * base[:, 4] * base[:, 5] + torch.log1p(hours.sum(1)) + 0.1 * torch.randn(n)
    return x[:cfg.rows], cost[:cfg.rows], x[cfg.rows:], cost[cfg.rows:]


if __name__ == "__main__":
    cfg = Config()
    torch.manual_seed(cfg.seed)
    data = telemetry(cfg)
    final = Trainer(cfg, CostModel(cfg), data, [CosineRate(), Progress()]).fit()
    print(f"final_loss={final}")
