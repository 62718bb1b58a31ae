"""Two processes of Lightning's data-parallel strategy, with the callback or without."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gainstage.integrations.lightning import GainstageCallback


class Small(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 1)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_fit_end(self) -> None:
        weights = [each.tolist() for each in self.net.parameters()]
        Path(f"weights.{self.global_rank}").write_text(json.dumps(weights))


if __name__ == "__main__":
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    callbacks: list[Any] = [] if sys.argv[1:] == ["bare"] else [GainstageCallback(out="run")]
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        gradient_clip_val=0.5,
    )
    trainer.fit(Small(), DataLoader(TensorDataset(rows), batch_size=8))
