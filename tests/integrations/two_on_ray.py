"""Two workers of Ray Train, each a rank of one watched run; writes each one's weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from gainstage.integrations.ray import watched


def loop(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = prepare_model(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    rank = ray.train.get_context().get_world_rank()
    batches = torch.Generator().manual_seed(rank)
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=batches)).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    weights = [each.tolist() for each in model.parameters()]
    Path(config["folder"], f"weights.{rank}").write_text(json.dumps(weights))


if __name__ == "__main__":
    here = str(Path.cwd())
    ray.init(num_cpus=2, include_dashboard=False)
    TorchTrainer(
        watched(loop, out="run") if sys.argv[1:] != ["bare"] else loop,
        train_loop_config={"lr": 0.1, "folder": here},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=here),
    ).fit()
