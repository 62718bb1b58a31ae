"""Appliance disaggregation from a household meter (NILM), semi-supervised with a mean teacher."""
import copy
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Settings:
    labelled: int = 24
    unlabelled: int = 24
    window: int = 64
    appliances: int = 4
    channels: int = 24
    lr: float = 0.01
    ema: float = 0.97
    consistency: float = 0.5
    ramp: int = 40
    steps: int = 160
    seed: int = 8


class House:
    """Each appliance has a rated power and an on/off pattern; the meter sees the sum in kilowatts."""

    rated = torch.tensor([0.15, 0.6, 1.2, 2.1])
    typical = torch.tensor([20, 14, 9, 5])

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)

    def sample(self, n, window):
        t = torch.arange(window)
        start = torch.randint(-10, window, (n, 4, 2), generator=self.gen)
        length = (self.typical[:, None] * (0.5 + torch.rand(n, 4, 2, generator=self.gen))).long()
        running = ((t >= start[..., None]) & (t < (start + length)[..., None])).any(2)
        power = running * self.rated[:, None] * (1 + 0.05 * torch.randn(n, 4, 1, generator=self.gen))
        meter = power.sum(1, keepdim=True) + 0.03 * torch.randn(n, 1, window, generator=self.gen)
        return meter, power


class Disaggregator(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        c = cfg.channels
        self.layers = nn.Sequential(
            nn.Conv1d(1, c, 5, padding=2),
            nn.ELU(),
            nn.Conv1d(c, c, 5, padding=4, dilation=2),
            nn.ELU(),
            nn.Conv1d(c, c, 5, padding=8, dilation=4),
            nn.ELU(),
            nn.Conv1d(c, cfg.appliances, 1),
        )

    def forward(self, meter):
        return self.layers(meter)


class MeanTeacherTrainer:
    def __init__(self, cfg):
        torch.manual_seed(cfg.seed)
        self.cfg = cfg
        self.house = House(cfg.seed)
        self.student = Disaggregator(cfg)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=cfg.lr, momentum=0.9, weight_decay=1e-5)
        self.log = []

    @torch.no_grad()
    def update_teacher(self):
        for slow, fast in zip(self.teacher.parameters(), self.student.parameters()):
            slow.lerp_(fast, 1 - self.cfg.ema)

    def step(self, index):
        cfg = self.cfg
        meter, power = self.house.sample(cfg.labelled, cfg.window)
        extra, _ = self.house.sample(cfg.unlabelled, cfg.window)
        self.teacher.zero_grad(set_to_none=True)
        supervised = nn.functional.mse_loss(self.student(meter), power)
        jitter = extra * (1 + 0.05 * torch.randn(len(extra), 1, 1))
        agreement = nn.functional.mse_loss(self.student(jitter), self.teacher(extra))
        loss = supervised + cfg.consistency * min(1.0, index / cfg.ramp) * agreement
        loss.backward()
        self.optimizer.step()
        self.update_teacher()
        return supervised.item()

    def run(self):
        for index in range(self.cfg.steps):
            self.log.append(self.step(index))
            if index % 20 == 0:
                print(f"[{index:03d}] supervised mse {self.log[-1]:.4f} kW2")
        return sum(self.log[-15:]) / 15


if __name__ == "__main__":
    print(f"final_loss={MeanTeacherTrainer(Settings()).run()}")
