"""One-step-ahead forecast of a load curve with a trainable linear reservoir.

The series is read as 24 parallel streams, in segments of 16 values; the state of a stream is handed on from
one segment to the next and detached there, so the memory reaches further back than the segment.
"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(31)
STREAMS, SEGMENT, STEPS = 24, 16, 360


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.scale


class Reservoir(nn.Module):
    def __init__(self, inputs=1, units=48, spectral_radius=1.04):
        super().__init__()
        self.inject = nn.Parameter(torch.randn(inputs, units) * 0.5)
        w = torch.randn(units, units) / math.sqrt(units)
        w = w * (spectral_radius / torch.linalg.eigvals(w).abs().max())
        self.w = nn.Parameter(w)
        self.norm = RMSNorm(units)
        self.read = nn.Sequential(nn.Linear(units + inputs, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, u, state):
        seen = []
        for t in range(u.shape[1]):
            state = state @ self.w + u[:, t] @ self.inject
            seen.append(torch.cat([self.norm(state), u[:, t]], dim=-1))
        return self.read(torch.stack(seen, dim=1)), state


def load_curve(length):
    t = torch.arange(length).float()
    phase = torch.rand(STREAMS, 1) * 2 * math.pi
    day = torch.sin(2 * math.pi * t / 24 + phase)
    week = 0.5 * torch.sin(2 * math.pi * t / 168 + 2 * phase)
    return (day + week + 0.05 * torch.randn(STREAMS, length)).unsqueeze(-1)


series = load_curve(STEPS * SEGMENT + 1)
model = Reservoir()
decay = [p for p in model.parameters() if p.ndim > 1]
plain = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW(
    [{"params": decay, "weight_decay": 1e-3}, {"params": plain, "weight_decay": 0.0}], lr=3e-4)

state = torch.zeros(STREAMS, 48)
running = None
for step in range(STEPS):
    at = step * SEGMENT
    u, target = series[:, at : at + SEGMENT], series[:, at + 1 : at + 1 + SEGMENT]
    prediction, state = model(u, state.detach())
    loss = F.smooth_l1_loss(prediction, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
    if step % 40 == 0:
        print(f"segment {step:4d}  loss {loss.item():.5f}  smoothed {running:.5f}")

print(f"final_loss={running}")
