"""The nets of the distributed trainings, their data, and the same trainings in one process."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 6


class Net(nn.Module):
    """Three layers and a norm over a short sequence; the last layer is used in even steps only."""

    def __init__(self, *, has_residual: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.has_residual = has_residual
        self.up = nn.Linear(8, 16)
        self.down = nn.Linear(16, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)
        self.extra = nn.Linear(8, 4)

    def forward(self, x: Tensor, with_extra: bool = True) -> Tensor:
        inner = self.down(torch.relu(self.up(x)))
        x = self.norm(x + inner if self.has_residual else inner)
        return self.head(x) + self.extra(x) if with_extra else self.head(x)


def stages() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Sequential(nn.Linear(16, 4))]


def batch(step: int, part: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + part)
    shape = (4, 4)
    return torch.randn(*shape, 8, generator=generator), torch.randn(*shape, 4, generator=generator)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


KINDS = (
    "ddp",
    "ddp-static",
    "ddp-view",
    "ddp-hook",
    "ddp-unused",
    "ddp-no-sync",
    "ddp-join",
    "ddp-zero",
    "fsdp2",
    "fsdp2-keep",
    "fsdp2-clip",
    "fsdp2-mixed",
    "hsdp",
    "fsdp1",
    "fsdp1-orig",
    "fsdp1-nested",
    "tp",
    "tp-sequence",
    "pipeline",
)
"""Those that `trainings.py` has."""
INEXACT = {"ddp-hook", "ddp-join", "fsdp2-mixed"}
"""Rounds on its way, or has no counterpart in one process."""


def reference(kind: str, world: int) -> list[float]:
    """Return the norms of the same training in one process, in float64."""
    if kind == "pipeline":
        return _plain_norms(nn.Sequential(*stages()).double(), [0], 1, None, False)
    is_parallel = kind.startswith("tp")
    parts = [0] if is_parallel else list(range(world))
    microbatches = 2 if kind == "ddp-no-sync" else 1
    clip = 0.3 if kind == "fsdp2-clip" else None
    model = Net(has_residual=kind != "tp-sequence").double()
    return _plain_norms(model, parts, microbatches, clip, kind == "ddp-unused")


def _plain_norms(
    model: nn.Module, parts: list[int], microbatches: int, clip: float | None, leaves_out: bool
) -> list[float]:
    optimizer, norms = sgd(model), list[float]()
    for step in range(STEPS):
        for micro in range(microbatches):
            both = [batch(step * microbatches + micro, part) for part in parts]
            x, y = (torch.cat(each).double() for each in zip(*both, strict=True))
            skips = leaves_out and step % 2 == 1
            output = model(x, False) if skips else model(x)
            (F.mse_loss(output, y) / microbatches).backward()
        limit = float("inf") if clip is None else clip
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in grads]))))
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        optimizer.zero_grad()
    return norms
