"""Score-based generative model of tide-gauge windows (variance exploding, one noise level per batch)."""
import math

import torch
from torch import nn

WINDOW, SIGMA_MIN, SIGMA_MAX = 24, 0.05, 5.0


class TideGauge:
    """Hourly sea level: two constituents with random phase and a storm surge now and then."""

    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def windows(self, n):
        t = torch.arange(WINDOW, dtype=torch.float32)
        phase = 2 * math.pi * torch.rand(n, 2, generator=self.g)
        level = (1.2 * torch.cos(2 * math.pi * t / 12.42 + phase[:, :1])
                 + 0.5 * torch.cos(2 * math.pi * t / 25.82 + phase[:, 1:]))
        surge = (torch.rand(n, 1, generator=self.g) < 0.1).float() * 1.5
        centre = WINDOW * torch.rand(n, 1, generator=self.g)
        return level + surge * torch.exp(-((t - centre) / 5) ** 2)


class ScoreNet(nn.Module):
    def __init__(self, hidden=160):
        super().__init__()
        self.register_buffer("freq", 2.0 ** torch.arange(6) * 0.125)
        self.net = nn.Sequential(nn.Linear(WINDOW + 12, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                 nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, WINDOW))

    def forward(self, x, sigma):
        angle = torch.log(sigma) * self.freq
        emb = torch.cat([angle.sin(), angle.cos()], dim=1)
        scaled = x / torch.sqrt(sigma ** 2 + 1.0)
        return -self.net(torch.cat([scaled, emb], dim=1)) / sigma


def score_matching(model, x, sigma):
    noise = torch.randn_like(x)
    score = model(x + sigma * noise, sigma)
    return ((score + noise / sigma) ** 2).sum(dim=1)


@torch.no_grad()
def held_out(model, x):
    """Denoising error over a fixed ladder of noise levels, in units of the noise."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    ladder = torch.logspace(math.log10(SIGMA_MIN), math.log10(SIGMA_MAX), 12)
    errors = [(s ** 2 * score_matching(model, x, s.expand(len(x), 1))).mean() / WINDOW for s in ladder]
    torch.set_rng_state(state)
    return torch.stack(errors).mean().item()


def train(steps=1800, batch=128):
    torch.manual_seed(77)
    gauge = TideGauge(seed=4)
    data, test = gauge.windows(8000), gauge.windows(500)
    model = ScoreNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    print(f"before training: held-out {held_out(model, test):.4f}")
    for step in range(steps):
        x = data[torch.randint(0, len(data), (batch,))]
        sigma = (SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** torch.rand(1)).expand(batch, 1)
        loss = (sigma.squeeze(1) * score_matching(model, x, sigma)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 150 == 0:
            print(f"step {step:5d}  sigma {sigma[0].item():7.3f}  loss {loss.item():10.2f}  held-out {held_out(model, test):.4f}")
    return held_out(model, test)


print(f"final_loss={train()}")
