"""Nowcast of sea state from ragged buoy series: height, period and swell, one head each."""
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HEADS = ("height", "period", "swell")


@dataclass
class Settings:
    records: int = 1600
    batch: int = 40
    epochs: int = 6
    width: int = 48
    lr: float = 2e-3
    weights: dict = field(default_factory=lambda: {"height": 1.0, "period": 0.5, "swell": 0.5})


def read_archive(records, rng):
    """Series of pressure readings and the variables of the hourly file, gaps as NaN."""
    series, table = [], {name: np.empty(records) for name in HEADS}
    for i in range(records):
        length = rng.integers(20, 48)
        height, period = rng.gamma(4.0, 0.5), rng.uniform(4, 14)
        swell = rng.uniform(0, 1) * height
        t = np.arange(length)
        phase = rng.uniform(0, 2 * np.pi, 2)
        wave = (height - swell) * np.sin(2 * np.pi * t / period + phase[0]) + swell * np.sin(2 * np.pi * t / 19 + phase[1])
        series.append((wave + rng.normal(0, 0.1, length)).astype(np.float32))
        for name, value in zip(HEADS, (height, period / 5, swell)):
            table[name][i] = value
    for name in HEADS:
        table[name][rng.random(records) < 0.08] = np.nan
    return series, table


def store(table, rng):
    """Write the variables as the archive does: packed to float32, unwritten cells keep the default fill."""
    packed = {name: column.astype(np.float32) for name, column in table.items()}
    cut = rng.integers(0, len(packed["swell"]))
    packed["swell"][cut:cut + 1] = np.float32(9.969209968386869e36)
    return packed


class Buoys(Dataset):
    def __init__(self, series, table):
        self.series, self.table = series, table

    def __len__(self):
        return len(self.series)

    def __getitem__(self, i):
        return {"series": self.series[i], **{name: self.table[name][i] for name in HEADS}}


def collate(items):
    items = sorted(items, key=lambda item: -len(item["series"]))
    lengths = torch.tensor([len(item["series"]) for item in items])
    padded = torch.zeros(len(items), int(lengths[0]))
    for row, item in zip(padded, items):
        row[:len(item["series"])] = torch.from_numpy(item["series"])
    targets = {name: torch.tensor([float(item[name]) for item in items]) for name in HEADS}
    return padded, lengths, targets


class SeaState(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, width, 7, padding=3), nn.GELU(),
                                  nn.Conv1d(width, width, 7, padding=3), nn.GELU())
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 1))
                                    for name in HEADS})

    def forward(self, padded, lengths):
        h = self.conv(padded[:, None])
        keep = (torch.arange(padded.shape[1]) < lengths[:, None])[:, None]
        mean = (h * keep).sum(-1) / lengths[:, None]
        peak = h.masked_fill(~keep, float("-inf")).amax(-1)
        pooled = torch.cat([mean, peak], dim=1)
        return {name: head(pooled).squeeze(1) for name, head in self.heads.items()}


def masked_error(pred, target):
    known = ~torch.isnan(target)
    gap = pred - torch.where(known, target, pred.detach())
    return (gap.square() * known).sum() / known.sum().clamp(min=1)


def main():
    torch.manual_seed(18)
    rng = np.random.default_rng(18)
    cfg = Settings()
    series, table = read_archive(cfg.records, rng)
    table = store(table, rng)
    loader = DataLoader(Buoys(series, table), batch_size=cfg.batch, shuffle=True, num_workers=0, collate_fn=collate)
    model = SeaState(cfg.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
    for epoch in range(cfg.epochs):
        history = {name: [] for name in HEADS}
        for padded, lengths, targets in loader:
            pred = model(padded, lengths)
            parts = {name: masked_error(pred[name], targets[name]) for name in HEADS}
            loss = sum(cfg.weights[name] * part for name, part in parts.items())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for name, part in parts.items():
                history[name].append(part.item())
        print(epoch, {name: round(float(np.mean(values)), 4) for name, values in history.items()})
    print(f"final_loss={loss.item()}")


if __name__ == "__main__":
    main()
