"""How long before it explodes a training is called sick, and how often too early.

    python -m benchmarks.lead_time [--seeds 20]

Four protocols. (a) A character GPT of two layers, AdamW 1e-3, whose learning rate is multiplied by
1.2 every step from step 120 on. (b) A recurrent net whose recurrent weights grow by 2% a step from
step 120 on. (c) The GPT with query and key weights that grow by 20% a step, and so its attention
logits. (d) The norms published of a 176B run (0.24, 0.95, 2.4, 16, 145, 960, and back in 30 steps),
which came to no harm: any alarm is false.

An explosion is a loss above ten times the mean of the last 40 good steps, or a loss or gradient
that is not finite. The lead is the number of steps from the first alarm to it; an alarm before step
120 is premature. Published rules (`benchmarks.baselines`) see the same records.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from pydoc_data import topics

import numpy as np
import torch
from benchmarks.baselines import RULES, Record, first_alarm
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import gainstage
from gainstage.detect import scan
from gainstage.facts.blocks import StepBlock, WeightBlock
from gainstage.facts.tensor import TensorInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from tiny_gpt import build_model

BEGIN = 120
STEPS = 320
GOOD = 40
FACTOR = 10.0

Step = Callable[[int], Tensor]


def ramp(seed: int) -> None:
    """Protocol (a)."""
    model, loss_of = _gpt(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def before(step: int) -> None:
        if step >= BEGIN:
            for group in optimizer.param_groups:
                group["lr"] *= 1.2

    _train(optimizer, loss_of, before)


def recurrent(seed: int) -> None:
    """Protocol (b)."""
    torch.manual_seed(seed)
    cell, head = nn.RNN(2, 32, nonlinearity="relu", batch_first=True), nn.Linear(32, 1)
    nn.init.orthogonal_(cell.weight_hh_l0, 0.8)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.01)

    def loss_of(step: int) -> Tensor:
        x = torch.rand(32, 40, 2)
        return F.mse_loss(head(cell(x)[0][:, -1]), x[:, :, :1].mean(1))

    def before(step: int) -> None:
        if step >= BEGIN:
            with torch.no_grad():
                cell.weight_hh_l0.mul_(1.02)

    _train(optimizer, loss_of, before)


def attention(seed: int) -> None:
    """Protocol (c)."""
    model, loss_of = _gpt(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def before(step: int) -> None:
        if step >= BEGIN:
            with torch.no_grad():
                for block in model.blocks:
                    block.query_key_value.weight[:128].mul_(1.2)

    _train(optimizer, loss_of, before)


def _gpt(seed: int) -> tuple[nn.Module, Step]:
    torch.manual_seed(seed)
    text = "".join(topics.topics.values())
    letters = sorted(set(text))
    code = torch.tensor([letters.index(each) for each in text[:200_000]])
    model = build_model(vocabulary=len(letters), layers=2, heads=4, width=64, context=32)

    def loss_of(step: int) -> Tensor:
        at = torch.randint(0, len(code) - 33, (16,))
        batch = torch.stack([code[i : i + 33] for i in at.tolist()])
        return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    return model, loss_of


def _train(optimizer: torch.optim.Optimizer, loss_of: Step, before: Callable[[int], None]) -> None:
    bad = 0
    for step in range(STEPS):
        before(step)
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
        bad += not math.isfinite(loss.item())
        if bad > 4:
            return


def explosion(block: StepBlock) -> int | None:
    """Return the first step that is not finite, or whose loss is 10 times the 40 before it."""
    good: list[float] = []
    for step, loss, norm in zip(
        block.step.tolist(), block.loss.tolist(), block.grad_norm.tolist(), strict=True
    ):
        far = len(good) >= GOOD and loss > FACTOR * statistics.fmean(good[-GOOD:])
        if far or not math.isfinite(loss) or not math.isfinite(norm):
            return step
        good.append(loss)
    return None


def watched(train: Callable[[int], None], seed: int, folder: Path) -> gainstage.Run:
    """Return the record of one training."""
    torch.set_num_threads(1)
    with contextlib.redirect_stderr(io.StringIO()), gainstage.watch(out=folder, budget=0.1):
        train(seed)
    return gainstage.load(folder)


def published_spike() -> StepBlock:
    """Protocol (d): the trace of DESIGN section 5, beside a calm loss."""
    random = np.random.default_rng(0)
    up = np.geomspace(0.24, 960, 15)
    norms = np.r_[np.full(400, 0.24), up, up[::-1], np.full(400, 0.24)]
    norms = norms * np.exp(random.normal(0, 0.1, len(norms)))
    count = len(norms)
    nothing = np.full(count, np.nan)
    return StepBlock(
        step=np.arange(count),
        time=np.arange(count, dtype=np.float64),
        loss=2.5 + random.normal(0, 0.02, count),
        has_loss=np.ones(count, np.bool_),
        lr=np.full(count, 6e-5),
        grad_norm=norms,
        max_norm=nothing,
        clip_coefficient=nothing,
        skipped=np.zeros(count, np.int64),
        grad_norms=norms[:, None].astype(np.float32),
        present=np.ones((count, 1), np.bool_),
    )


def alarm_of(run: gainstage.Run) -> int | None:
    """Return the first step of a symptom worse than a note."""
    return min((s.step for s in run.findings.symptoms if s.severity != "info"), default=None)


def row_of(name: str, alarms: list[int | None], ends: list[int]) -> list[str]:
    """Return a line of the table: of those explosions that were seen, and in time."""
    leads = [end - alarm for alarm, end in zip(alarms, ends, strict=True) if alarm is not None]
    early = sum(alarm is not None and alarm < BEGIN for alarm in alarms)
    spread = f"{min(leads)} to {max(leads)}" if leads else "-"
    median = f"{statistics.median(leads):g}" if leads else "-"
    return [name, f"{len(leads)}/{len(ends)}", median, spread, str(early)]


PROTOCOLS = {"a": ramp, "b": recurrent, "c": attention}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lead_time", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--protocols", default="abcd")
    args = parser.parse_args()
    seeds = range(args.seeds)
    console = Console(width=110, file=sys.stdout)
    for train in (PROTOCOLS[name] for name in args.protocols if name in PROTOCOLS):
        with tempfile.TemporaryDirectory(prefix="lead-") as temporary:
            runs = [watched(train, seed, Path(temporary, str(seed))) for seed in seeds]
            pairs = [(run, end) for run in runs if (end := explosion(run.block())) is not None]
            ends = [end for _, end in pairs]
            title = f"{(train.__doc__ or '').strip('.')}: {len(ends)} of {len(runs)} exploded"
            if ends:
                title += f", at step {statistics.median(ends):g} (median)"
            table = Table("rule", "alarmed", "median lead", "leads", "premature", title=title)
            table.add_row(*row_of("gainstage", [alarm_of(run) for run, _ in pairs], ends))
            for name, rule in RULES.items():
                records = [Record(r.block(), r.weight_block(), r.tensors()) for r, _ in pairs]
                table.add_row(*row_of(name, [first_alarm(rule, each) for each in records], ends))
            console.print(table)
    if "d" not in args.protocols:
        return
    block = published_spike()
    tensors = (TensorInfo("w", "", (1000, 1000), "float32"),)
    weights = WeightBlock(
        np.zeros(1, np.int64), np.full((1, 1), 100, np.float32), block.present[:1]
    )
    state, _ = scan.update(scan.start(tensors), block, weights, tensors)
    ours = [each for each in scan.findings(state).symptoms if each.severity != "info"]
    table = Table("rule", "alarms", title="Protocol (d): a spike that recovers")
    table.add_row("gainstage", str(len(ours)))
    for name, rule in RULES.items():
        alarm = first_alarm(rule, Record(block, weights, tensors))
        table.add_row(name, "-" if alarm is None else f"false, at step {alarm}")
    console.print(table)


if __name__ == "__main__":
    main()
