"""Demand of electricity meters in the next hour; many meters are idle at night."""
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


@dataclass
class Setup:
    meters: int = 240
    hours: int = 24 * 14
    history: int = 24
    batch: int = 96
    cycle: int = 120
    cycles: int = 4
    lr: float = 0.25
    seed: int = 19


def readings(cfg):
    rng = np.random.default_rng(cfg.seed)
    hour = np.arange(cfg.hours)
    shift = rng.uniform(-3, 3, (cfg.meters, 1))
    level = rng.lognormal(0, 0.5, (cfg.meters, 1))
    shape = np.sin((hour + shift - 7) * 2 * np.pi / 24) + 0.4 * np.sin((hour + shift) * 4 * np.pi / 24)
    use = level * np.clip(shape + 0.3 + rng.normal(0, 0.15, (cfg.meters, cfg.hours)), 0, None)
    use[:9] = 0.0
    return torch.tensor(use, dtype=torch.float32)


class Forecaster(nn.Module):
    def __init__(self, history):
        super().__init__()
        self.layers = nn.ModuleDict({
            "in": weight_norm(nn.Linear(history, 64)),
            "mid": weight_norm(nn.Linear(64, 64)),
            "out": nn.Linear(64, 1),
        })

    def forward(self, x):
        h = nn.functional.silu(self.layers["in"](x))
        h = h + nn.functional.silu(self.layers["mid"](h))
        return self.layers["out"](h).squeeze(-1)


class Callback:
    def batch_end(self, run, step): pass
    def phase_end(self, run, step): pass


class Scores(Callback):
    """Relative error, explained variance per meter and log ratio on the last two days."""

    def __init__(self, use, every=30):
        self.use, self.every = use, every

    @torch.no_grad()
    def batch_end(self, run, step):
        if step % self.every:
            return
        run.model.eval()
        history = run.cfg.history
        x = self.use.unfold(1, history + 1, 1)
        pred = run.model(x[..., :history].reshape(-1, history)).view(x.shape[:2])
        true = x[..., history]
        relative = ((pred - true).abs() / true).mean()
        explained = 1 - (pred - true).square().sum(1) / (true - true.mean(1, keepdim=True)).square().sum(1)
        ratio = torch.log(pred.clamp(min=0) / true).abs().mean()
        error = (pred - true).square().mean()
        print(f"{step:4d} squared {error:.4f} relative {relative:.3f} explained {explained.mean():.3f} "
              f"(median {explained.nanmedian():.3f}) log ratio {ratio:.3f}")
        run.model.train()


class Restarts(Callback):
    def __init__(self, optimizer, cycle):
        self.plan = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, cycle)

    def batch_end(self, run, step):
        self.plan.step()


class Keep(Callback):
    def __init__(self):
        self.best = float("inf")

    def phase_end(self, run, step):
        mean = sum(run.recent) / len(run.recent)
        self.best = min(self.best, mean)
        run.recent.clear()


class Run:
    def __init__(self, cfg, use):
        self.cfg = cfg
        self.train_use, test_use = use[:, :-48], use[:, -48 - cfg.history:]
        self.model = Forecaster(cfg.history)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=0.8)
        self.recent, self.keep = [], Keep()
        self.callbacks = [Scores(test_use), Restarts(self.optimizer, cfg.cycle), self.keep]
        self.generator = torch.Generator().manual_seed(cfg.seed)

    def batch(self):
        cfg = self.cfg
        who = torch.randint(0, cfg.meters, (cfg.batch,), generator=self.generator)
        at = torch.randint(0, self.train_use.shape[1] - cfg.history, (cfg.batch,), generator=self.generator)
        window = self.train_use[who[:, None], at[:, None] + torch.arange(cfg.history + 1)]
        return window[:, :-1], window[:, -1]

    def fit(self):
        for step in range(self.cfg.cycle * self.cfg.cycles):
            x, y = self.batch()
            self.optimizer.zero_grad(set_to_none=False)
            loss = nn.functional.mse_loss(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.recent.append(loss.item())
            for callback in self.callbacks:
                callback.batch_end(self, step)
            if (step + 1) % self.cfg.cycle == 0:
                for callback in self.callbacks:
                    callback.phase_end(self, step)
        return self.keep.best


cfg = Setup()
torch.manual_seed(cfg.seed)
print(f"final_loss={Run(cfg, readings(cfg)).fit()}")
