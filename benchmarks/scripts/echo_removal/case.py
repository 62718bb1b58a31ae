"""Learn the complex transfer function that undoes a room's echo, with time and spectrum losses."""
import math

import torch
from torch import nn

torch.manual_seed(12)

RATE = 256
ROOM = torch.zeros(40)
ROOM[[0, 9, 17, 31]] = torch.tensor([1.0, 0.5, -0.3, 0.2])


def dry_batch(n, length):
    t = torch.arange(length) / RATE
    pitch = 4 + 40 * torch.rand(n, 3, 1)
    loud = torch.rand(n, 3, 1)
    shift = 2 * math.pi * torch.rand(n, 3, 1)
    tones = (loud * torch.sin(2 * math.pi * pitch * t + shift)).sum(1)
    envelope = torch.exp(-((t - torch.rand(n, 1) * t[-1]) ** 2) * 8)
    return tones * (0.3 + envelope) + 0.05 * torch.randn(n, length)


def reverberate(dry):
    size = 2 * dry.shape[-1]
    wet = torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(ROOM, size), size)[..., :dry.shape[-1]]
    return torch.tanh(0.6 * wet)


class Unroom(nn.Module):
    """A complex filter per frequency, followed by a small temporal correction."""

    def __init__(self, length, channels=12):
        super().__init__()
        self.length = length
        self.filter = nn.Parameter(torch.ones(length + 1, dtype=torch.cfloat) + 0.05 * torch.randn(length + 1, dtype=torch.cfloat))
        self.correct = nn.Sequential(nn.Conv1d(1, channels, 9, padding=4), nn.Tanh(), nn.Conv1d(channels, 1, 9, padding=4))

    def forward(self, wet):
        spectrum = torch.fft.rfft(wet, 2 * self.length) * self.filter
        clean = torch.fft.irfft(spectrum, 2 * self.length)[..., :self.length]
        return clean + self.correct(clean[:, None])[:, 0]


class Objective:
    def __init__(self, spectral_weight=0.02):
        self.spectral_weight = spectral_weight

    def waveform(self, out, dry):
        return (out - dry).abs().mean()

    def energy(self, out, dry):
        return (out.square().mean(-1) - dry.square().mean(-1)).abs().mean()

    def spectrum(self, out, dry):
        gap = torch.fft.rfft(out) - torch.fft.rfft(dry)
        return (gap * gap.conj()).real.sum(-1).mean()

    def __call__(self, out, dry):
        return self.waveform(out, dry) + 0.1 * self.energy(out, dry) + self.spectral_weight * self.spectrum(out, dry)


def evaluate(model, objective, length):
    with torch.no_grad():
        dry = dry_batch(64, length)
        return objective.waveform(model(reverberate(dry)), dry).item()


def train(length=256, steps=500, batch=24):
    model, objective = Unroom(length), Objective()
    fast = torch.optim.SGD([model.filter], lr=0.3, momentum=0.9)
    slow = torch.optim.SGD(model.correct.parameters(), lr=0.03, momentum=0.9)
    for step in range(steps):
        dry = dry_batch(batch, length)
        loss = objective(model(reverberate(dry)), dry)
        for optimizer in (fast, slow):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (fast, slow):
            optimizer.step()
        if step % 50 == 0:
            print(f"{step:4d} loss {loss.item():.4f} held-out waveform error {evaluate(model, objective, length):.4f}")
    print(f"final_loss={evaluate(model, objective, length)}")


train()
