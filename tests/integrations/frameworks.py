"""Small real trainings by three frameworks, as they are and with gainstage's one argument.

Prints a line of JSON for each: what the weights are at the end and what the framework logged.
Then runs the Python in the Markdown files that it is given.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import accelerate
import pytorch_lightning as pl
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gainstage.integrations.accelerate import GainstageTracker
from gainstage.integrations.lightning import GainstageCallback as LightningCallback
from gainstage.integrations.transformers import GainstageCallback as TransformersCallback

logging.getLogger("transformers").setLevel(logging.ERROR)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(8, 16)
        self.head = nn.Linear(16, 1)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.head(torch.tanh(self.encoder(inputs))), targets)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("validation", self.training_step(batch, index))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def batches() -> DataLoader[Any]:
    inputs = torch.randn(64, 8)
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4)


def with_lightning(callback: LightningCallback | None) -> tuple[nn.Module, list[float]]:
    pl.seed_everything(0, verbose=False)
    data, net = batches(), Net()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=0.5,
        accumulate_grad_batches=2,
        callbacks=[callback] if callback else [],
    )
    trainer.fit(net, data, data)
    return net, []


def with_transformers(callback: TransformersCallback | None) -> tuple[nn.Module, list[float]]:
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        vocab_size=32,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)
    arguments = transformers.TrainingArguments(
        output_dir="out",
        max_steps=12,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        max_grad_norm=0.5,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (64, 12))]
    trainer = transformers.Trainer(
        model, arguments, train_dataset=data, callbacks=[callback] if callback else []
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.train()
    logged = [float(line["grad_norm"]) for line in trainer.state.log_history if "grad_norm" in line]
    return model, logged


def with_accelerate(tracker: GainstageTracker | None) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, log_with=tracker)
    accelerator.init_trackers("project", {"lr": 0.05})
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    model, optimizer, data = accelerator.prepare(net, sgd, batches())
    logged: list[float] = []
    for inputs, targets in data:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(inputs), targets)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                logged.append(float(accelerator.clip_grad_norm_(model.parameters(), 1.0)))
            optimizer.step()
            optimizer.zero_grad()
        accelerator.log({"loss": float(loss.detach())})
    accelerator.end_training()
    return net, logged


def digest(model: nn.Module) -> str:
    hashed = hashlib.sha256()
    for value in model.state_dict().values():
        hashed.update(value.detach().numpy().tobytes())
    return hashed.hexdigest()


def main() -> None:
    trainings: list[tuple[str, Any, Any]] = [
        ("lightning", with_lightning, LightningCallback),
        ("transformers", with_transformers, TransformersCallback),
        ("accelerate", with_accelerate, GainstageTracker),
    ]
    for is_asked in (False, True):
        for name, train, ours in trainings:
            given = ours(out=f"watched-{name}") if is_asked else None
            model, logged = train(given)
            print(json.dumps([name, is_asked, digest(model), logged]), flush=True)
    for path in sys.argv[1:]:
        for block in re.findall(r"^```python\n(.*?)^```", Path(path).read_text(), re.M | re.S):
            # Ray alone would take as long as all the rest.
            if "from ray" not in block:
                exec(compile(block, path, "exec"), {})


main()
