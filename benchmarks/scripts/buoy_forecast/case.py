"""Next-day sea surface temperature for a fleet of moored buoys (hourly series, dilated convolutions)."""
import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PAST, AHEAD = 72, 24


def read_fleet(buoys=36, days=124, seed=4):
    """Hourly temperatures in degrees C, packed as short integers the way the archive does."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    series = []
    for _ in range(buoys):
        level = rng.uniform(8, 24)
        season = rng.uniform(2, 4) * np.sin(2 * np.pi * hours / (24 * 90) + rng.uniform(0, 6))
        daily = rng.uniform(0.2, 0.9) * np.sin(2 * np.pi * hours / 24 + rng.uniform(-0.5, 0.5))
        drift = np.cumsum(rng.normal(0, 0.03, len(hours)))
        series.append(level + season + daily + drift + rng.normal(0, 0.05, len(hours)))
    packed = np.rint(np.stack(series) / 0.001).astype(np.int16)
    gaps = np.zeros(packed.shape, bool)
    gaps[rng.random(packed.shape) < 0.002] = True
    gaps[17, 1711:1714] = True
    packed[gaps] = -32767
    return packed, gaps


def decode(packed, gaps, fill=9.969209968386869e36):
    values = packed.astype(np.float64) * 0.001
    values[gaps] = fill
    return values


def fill_gaps(values, gaps):
    for row, holes in zip(values, gaps):
        single = holes & ~np.roll(holes, 1) & ~np.roll(holes, -1)
        row[single] = np.interp(np.flatnonzero(single), np.flatnonzero(~holes), row[~holes])
    return values


def windows(values):
    xs, ys = [], []
    for start in range(0, values.shape[1] - PAST - AHEAD + 1, PAST + AHEAD):
        xs.append(values[:, start:start + PAST])
        ys.append(values[:, start + PAST:start + PAST + AHEAD])
    x, y = np.concatenate(xs), np.concatenate(ys)
    anchor = x[:, -1:].copy()
    return torch.tensor(x - anchor, dtype=torch.float32), torch.tensor(y - anchor, dtype=torch.float32)


class Dilated(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.inlet = nn.Conv1d(1, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=2 ** k, padding=2 ** k) for k in range(4))
        self.outlet = nn.Linear(width * PAST // 6, AHEAD)

    def forward(self, x):
        h = torch.relu(self.inlet(x.unsqueeze(1)))
        for layer in self.layers:
            h = h + 0.5 * torch.relu(layer(h))
        return self.outlet(nn.functional.avg_pool1d(h, 6).flatten(1))


class Trainer:
    def __init__(self, model, lr=1e-3, patience=8):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        self.patience = patience
        self.best, self.best_state, self.stale = float("inf"), None, 0

    def epoch(self, loader):
        self.model.train()
        total = 0.0
        for x, y in loader:
            loss = nn.functional.mse_loss(self.model(x), y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(x)
        return total / len(loader.dataset)

    @torch.no_grad()
    def validate(self, x, y):
        self.model.eval()
        return nn.functional.mse_loss(self.model(x), y).item()

    def fit(self, loader, x_val, y_val, epochs):
        for e in range(epochs):
            train, val = self.epoch(loader), self.validate(x_val, y_val)
            print(f"epoch {e:2d}  train {train:.4f}  val {val:.4f}")
            if val < self.best:
                self.best, self.best_state, self.stale = val, copy.deepcopy(self.model.state_dict()), 0
            else:
                self.stale += 1
                if self.stale == self.patience:
                    break
        return val


def main():
    torch.manual_seed(16)
    packed, gaps = read_fleet()
    x, y = windows(fill_gaps(decode(packed, gaps), gaps))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    held = order[:200]
    keep = order[200:]
    loader = DataLoader(TensorDataset(x[keep], y[keep]), batch_size=32, shuffle=True)
    trainer = Trainer(Dilated())
    final = trainer.fit(loader, x[held], y[held], epochs=12)
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
