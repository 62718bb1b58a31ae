"""Chord recogniser with warm restarts and stochastic weight averaging."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)

RATE, LENGTH = 1600, 256
CHORDS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6), "augmented": (0, 4, 8)}


def chord(offsets):
    root = 110 * 2 ** (torch.randint(0, 7, ()) / 12)
    t = torch.arange(LENGTH) / RATE
    wave = 0.8 * torch.randn(LENGTH)
    for semitone in offsets:
        f = root * 2 ** (semitone / 12)
        wave = wave + torch.sin(2 * math.pi * (f * t + torch.rand(()))) * (0.7 + 0.6 * torch.rand(()))
    return torch.log1p(torch.fft.rfft(wave * torch.hann_window(LENGTH)).abs())[:64]


def recordings(n):
    labels = torch.randint(len(CHORDS), (n,))
    names = list(CHORDS)
    return TensorDataset(torch.stack([chord(CHORDS[names[k]]) for k in labels.tolist()]), labels)


train, valid = recordings(1600), recordings(400)
loader = DataLoader(train, batch_size=64, shuffle=True, drop_last=True)
valid_loader = DataLoader(valid, batch_size=200)

model = nn.Sequential(
    nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(),
    nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(),
    nn.Linear(128, len(CHORDS)),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=2e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4 * len(loader), eta_min=1e-4)
average = AveragedModel(model)


def loss_on(net):
    net.eval()
    with torch.no_grad():
        loss = sum(F.cross_entropy(net(x), y, reduction="sum").item() for x, y in valid_loader) / len(valid)
    net.train()
    return loss


for epoch in range(24):
    seen = []
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        seen.append(loss.item())
    if epoch % 4 == 3:                              # end of a cosine cycle
        average.update_parameters(model)
        for state in optimizer.state.values():      # the next cycle starts without speed
            state["momentum_buffer"].zero_()
    print(f"epoch {epoch:2d}  lr {scheduler.get_last_lr()[0]:.4f}  train {sum(seen) / len(seen):.4f}  "
          f"worst {max(seen):.4f}  last {seen[-1]:.4f}  valid {loss_on(model):.4f}")

update_bn(loader, average)
final = loss_on(average)
print(f"averaged model: valid {final:.4f}")
print(f"final_loss={final}")
