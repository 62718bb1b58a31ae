"""Contrastive pre-training: align 10-second ECG beats with the admission lab panel of the same patient."""
import csv
import io

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

ANALYTES = ["sodium", "potassium", "chloride", "bicarb", "urea", "creatinine", "calcium", "magnesium", "albumin", "crp"]
REF_MEAN = np.array([140, 4.2, 102, 24, 5.5, 85, 2.3, 0.85, 40, 12], dtype=np.float32)
REF_SD = np.array([3, 0.45, 3, 2.5, 1.8, 22, 0.1, 0.09, 4, 9], dtype=np.float32)
rng = np.random.default_rng(11)


def cohort(n):
    z = rng.normal(size=(n, 6)).astype(np.float32)
    mix = np.random.default_rng(3).normal(size=(6, 10)).astype(np.float32)
    labs = REF_MEAN + REF_SD * (z @ mix * 0.5 + 0.15 * rng.normal(size=(n, 10)))
    t = np.linspace(0, 1, 64, dtype=np.float32)[None]
    c = z[:, :, None]
    ecg = ((1 + 0.3 * c[:, 0]) * np.exp(-((t - 0.4 - 0.03 * c[:, 1]) / 0.03) ** 2)
           + (0.4 + 0.2 * c[:, 2]) * np.exp(-((t - 0.7 - 0.04 * c[:, 3]) / (0.07 + 0.01 * np.tanh(c[:, 4]))) ** 2)
           + 0.1 * c[:, 5] * (t > 0.45) * (t < 0.6))
    return (ecg + 0.02 * rng.normal(size=ecg.shape)).astype(np.float32), labs


def lims_export(labs, not_done):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(ANALYTES)
    for row, skip in zip(labs, not_done):
        writer.writerow([-9999 if s else f"{v:.2f}" for v, s in zip(row, skip)])
    return out.getvalue()


def load_panel(text):
    table = np.genfromtxt(io.StringIO(text), delimiter=",", skip_header=1, dtype=np.float32)
    col_median = np.nanmedian(table, axis=0)
    table = np.where(np.isnan(table), col_median, table)
    return torch.from_numpy((table - REF_MEAN) / REF_SD).float()


class EcgEncoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, 16, 7, stride=2, padding=3), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2), nn.BatchNorm1d(32), nn.ReLU())
        self.out = nn.Linear(32 * 16, dim)

    def forward(self, x):
        return F.normalize(self.out(self.conv(x[:, None]).flatten(1)), dim=1)


class LabEncoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


class Aligner:
    def __init__(self, dim=24, lr=2e-3):
        self.ecg, self.lab = EcgEncoder(dim), LabEncoder(dim)
        self.log_t = nn.Parameter(torch.tensor(2.0))
        self.opt = torch.optim.AdamW([*self.ecg.parameters(), *self.lab.parameters(), self.log_t], lr=lr, weight_decay=1e-4)

    def loss(self, ecg, labs):
        logits = self.ecg(ecg) @ self.lab(labs).T * self.log_t.exp().clamp(max=50)
        target = torch.arange(len(ecg))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    def fit(self, ecg, labs, epochs, batch=64):
        for epoch in range(epochs):
            total = 0.0
            for idx in torch.randperm(len(ecg)).split(batch):
                loss = self.loss(ecg[idx], labs[idx])
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
                total += loss.item() * len(idx) / len(ecg)
            print(f"epoch {epoch} train {total:.3f} val {self.validate():.3f}")

    @torch.no_grad()
    def validate(self):
        self.ecg.eval(), self.lab.eval()
        value = np.mean([self.loss(e, l).item() for e, l in zip(val_ecg.split(64), val_labs.split(64))])
        self.ecg.train(), self.lab.train()
        return value


torch.manual_seed(0)
ecg, labs = cohort(1536)
train_ecg, train_labs = torch.from_numpy(ecg), load_panel(lims_export(labs, rng.random(labs.shape) < 3e-4))
ecg, labs = cohort(512)
val_ecg, val_labs = torch.from_numpy(ecg), load_panel(lims_export(labs, np.zeros(labs.shape, dtype=bool)))
aligner = Aligner()
aligner.fit(train_ecg, train_labs, epochs=14)
print(f"final_loss={aligner.validate()}")
