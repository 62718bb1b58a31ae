"""Next-frame prediction on bouncing-ball clips: pixel loss plus gradient-difference sharpening."""
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class Config:
    size: int = 24
    context: int = 3
    batch: int = 12
    steps: int = 140
    lr: float = 0.03
    momentum: float = 0.9
    sharpen: float = 0.3
    seed: int = 5


def bouncing_balls(n, frames, size):
    pos = torch.rand(n, 2, 2) * (size - 8) + 4
    vel = torch.randn(n, 2, 2) * 1.2
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).float()
    out = []
    for _ in range(frames):
        pos = pos + vel
        hit = (pos < 3) | (pos > size - 4)
        vel = torch.where(hit, -vel, vel)
        pos = pos.clamp(3, size - 4)
        d2 = ((grid[None, None] - pos[..., None, None]) ** 2).sum(2)
        out.append(torch.exp(-d2 / 4.0).sum(1).clamp(max=1.0))
    return torch.stack(out, 1)


class FramePredictor(nn.Module):
    def __init__(self, context, width=24):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(context, width, 5, padding=2), nn.GroupNorm(4, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.GroupNorm(4, width), nn.SiLU(),
        )
        self.dec = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, clip):
        return (clip[:, -1:] + self.dec(self.enc(clip))).squeeze(1)


class SharpFrameLoss(nn.Module):
    """Mathieu et al.: intensity term and a term on horizontal/vertical image gradients."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.pixel = nn.MSELoss()

    @staticmethod
    def _grads(img):
        return img[:, :, 1:] - img[:, :, :-1], img[:, 1:] - img[:, :-1]

    def forward(self, pred, target):
        px, py = self._grads(pred)
        tx, ty = self._grads(target)
        gdl = (px - tx).pow(2).sum() + (py - ty).pow(2).sum()
        return self.pixel(pred, target) + self.weight * gdl


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        torch.manual_seed(cfg.seed)
        self.model = FramePredictor(cfg.context)
        self.loss_fn = SharpFrameLoss(cfg.sharpen)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum)
        self.test = bouncing_balls(64, cfg.context + 1, cfg.size)

    def test_mse(self):
        with torch.no_grad():
            pred = self.model(self.test[:, :-1])
        return nn.functional.mse_loss(pred, self.test[:, -1]).item()

    def fit(self):
        cfg = self.cfg
        print(f"copy-last-frame mse {nn.functional.mse_loss(self.test[:, -2], self.test[:, -1]).item():.5f}")
        for step in range(cfg.steps):
            clip = bouncing_balls(cfg.batch, cfg.context + 1, cfg.size)
            loss = self.loss_fn(self.model(clip[:, :-1]), clip[:, -1])
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            self.opt.step()
            if step % 20 == 0:
                print(f"step {step:4d}  test mse {self.test_mse():.5f}")
        return self.test_mse()


print(f"final_loss={Trainer(Config()).fit()}")
