"""What watching and clipping cost: ratios of times taken turn by turn in one run.

    python benchmarks/overhead.py [--json FILE] [--quick]

Prints a table and writes it as JSON. `bare` and `watched` steps alternate within one process, so
that a machine whose speed drifts slows both. Watching is the whole of it: hooks, norms, the
writer's thread, detectors. `median` compares the median step, `mean` the time of all steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

import gainstage
from gainstage.attach import hooks, session

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    reference_us: float
    ours_us: float
    median: float
    mean: float
    bound: float


def alternate(
    reference: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    *,
    enter: Callable[[], Callable[[], None]] | None = None,
    block: int = 1,
) -> tuple[list[float], list[float]]:
    """Time both in turn, `block` calls at a time; `enter` prepares for ours and gives its undo."""
    times: tuple[list[float], list[float]] = ([], [])
    clock = time.perf_counter
    for turn in range(2 * rounds):
        # bare ours ours bare: a drift within a round hits both alike.
        which = (turn % 4) in (1, 2)
        leave = enter() if which and enter is not None else None
        call = ours if which else reference
        for _ in range(block):
            began = clock()
            call()
            times[which].append(clock() - began)
        if leave is not None:
            leave()
    return times


def compare(what: str, bound: float, times: tuple[list[float], list[float]]) -> Row:
    """Return the row of a comparison, without the first tenth, which warms up."""
    bare, ours = (each[len(each) // 10 :] for each in times)
    return Row(
        what,
        statistics.median(bare) * 1e6,
        statistics.median(ours) * 1e6,
        statistics.median(ours) / statistics.median(bare),
        statistics.fmean(ours) / statistics.fmean(bare),
        bound,
    )


def mlp_step(*, clip: bool) -> Callable[[], object]:
    """Return a training step of about 2 ms: an MLP with three hidden layers of 256."""
    torch.manual_seed(0)
    widths = [64, 256, 256, 256]
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn(192, 64), torch.randint(0, 10, (192,))

    def step() -> None:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def gpt_step() -> Callable[[], object]:
    """Return a training step of a decoder with 10.8 million parameters."""
    spec = importlib.util.spec_from_file_location("tiny_gpt", EXAMPLES / "tiny_gpt.py")
    assert spec is not None
    assert spec.loader is not None
    tiny_gpt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny_gpt)
    torch.manual_seed(0)
    model = tiny_gpt.build_model(vocabulary=96, layers=6, heads=6, width=384, context=128)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    tokens = torch.randint(0, 96, (8, 129))

    def step() -> None:
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def watched(what: str, bound: float, step: Callable[[], object], rounds: int, block: int) -> Row:
    """Compare a step with the same step watched."""
    for _ in range(3 * block):
        step()
    with tempfile.TemporaryDirectory() as folder, gainstage.watch(out=Path(folder, "run")):
        active = session.active
        assert active is not None
        assert active.detach is not None
        active.detach()

        def enter() -> Callable[[], None]:
            return hooks.attach(active.recorder)

        times = alternate(step, step, rounds, enter=enter, block=block)
        active.detach = None
    return compare(what, bound, times)


def read_alone(what: str, step: Callable[[], object], rounds: int, block: int) -> Row:
    """Compare a step with one before which all gradients are read by one fused call: the floor."""

    def norms(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        torch.stack(torch._foreach_norm(grads)).tolist()

    def enter() -> Callable[[], None]:
        return register_optimizer_step_pre_hook(norms).remove

    for _ in range(3 * block):
        step()
    return compare(what, float("inf"), alternate(step, step, rounds, enter=enter, block=block))


def read(what: str, step: Callable[[], object], rounds: int) -> list[Row]:
    """Compare a step with the same step when its graph is sampled, and when its sites are taken."""
    rows: list[Row] = []
    for kind in ("sampled step", "site-map step"):
        with tempfile.TemporaryDirectory() as folder, gainstage.watch(out=Path(folder, "run")):
            active = session.active
            assert active is not None
            graph = active.recorder.graph
            assert graph is not None
            for _ in range(8):
                step()

            def bare() -> None:
                graph.schedule.due = float("inf")  # noqa: B023
                step()

            def sampled() -> None:
                graph.schedule.due = 0.0  # noqa: B023
                step()

            def mapped() -> None:
                graph.schedule.due = float("inf")  # noqa: B023
                graph.begin()  # noqa: B023
                step()

            ours = sampled if kind == "sampled step" else mapped
            rows.append(compare(f"{kind}, {what}", float("inf"), alternate(bare, ours, rounds)))
    return rows


def parameters(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    """Return parameters of these shapes with gradients of norm about 1 altogether."""
    torch.manual_seed(0)
    made = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    count = sum(parameter.numel() for parameter in made)
    for parameter in made:
        parameter.grad = torch.randn_like(parameter) / count**0.5
    return made


def gpt2_small() -> list[tuple[int, ...]]:
    """Return the shapes of GPT-2 small's parameters, 124 million elements."""
    width = 768
    layer = [
        *[(width,)] * 2, (3 * width, width), (3 * width,), (width, width), (width,),
        *[(width,)] * 2, (4 * width, width), (4 * width,), (width, 4 * width), (width,),
    ]  # fmt: skip
    return [(50257, width), (1024, width), *layer * 12, (width,), (width,)]


def clipping(
    name: str, shapes: list[tuple[int, ...]], rounds: int, bounds: dict[str, float]
) -> list[Row]:
    """Compare our `clip_grad_norm_` with torch's, where the limit is out of reach and where not."""
    made = parameters(shapes)
    rows: list[Row] = []
    for kind, max_norm in (("idle", 1e9), ("active", 0.5)):
        # An active clip scales the same gradients again and again: keep them above the limit.
        grow = kind == "active"

        def call(function: Callable[..., object], limit: float = max_norm) -> Callable[[], object]:
            return lambda: function(made, limit)

        def refill() -> Callable[[], None]:
            torch._foreach_mul_([parameter.grad for parameter in made], 4.0)
            return lambda: torch._foreach_mul_([parameter.grad for parameter in made], 4.0)

        times = alternate(
            call(torch.nn.utils.clip_grad_norm_),
            call(gainstage.clip_grad_norm_),
            rounds,
            enter=refill if grow else None,
        )
        rows.append(compare(f"clip_grad_norm_ {kind}, {name}", bounds[kind], times))
    return rows


def one_pass(name: str, shapes: list[tuple[int, ...]], rounds: int) -> Row:
    """Compare torch's clip that does not act with a sum of the same memory: what reading costs."""
    made = parameters(shapes)

    def clip() -> object:
        return torch.nn.utils.clip_grad_norm_(made, 1e9)

    def sums() -> object:
        return [parameter.grad.sum() for parameter in made if parameter.grad is not None]

    return compare(
        f"sum of the gradients alone, {name}", float("inf"), alternate(clip, sums, rounds)
    )


def treated(what: str, shapes: list[tuple[int, ...]], rounds: int, bound: float) -> Row:
    """Compare torch's clip and a fused AdamW step with a treated one: clipped, skipped if bad.

    The treated step is watched as well: its one read of the gradients makes the record.
    """
    made = parameters(shapes)
    optimizer = torch.optim.AdamW(made, lr=1e-9, fused=True)
    specs = ("clip-global-norm:max_norm=0.5", "skip-nonfinite")
    whole = [parameter.grad for parameter in made]

    def torchs() -> None:
        torch.nn.utils.clip_grad_norm_(made, 0.5)
        optimizer.step()

    with (
        tempfile.TemporaryDirectory() as folder,
        gainstage.watch(out=Path(folder, "run"), treat=specs),
    ):
        active = session.active
        assert active is not None
        assert active.detach is not None
        for _ in range(3):
            optimizer.step()
        active.detach()

        def refill() -> Callable[[], None]:
            torch._foreach_mul_(whole, 4.0)
            return lambda: torch._foreach_mul_(whole, 4.0)

        def enter() -> Callable[[], None]:
            refill()
            leave = active._attach_all()

            def undo() -> None:
                leave()
                torch._foreach_mul_(whole, 4.0)

            return undo

        times = alternate(torchs, optimizer.step, rounds, enter=enter)
        active.detach = None
    return compare(what, bound, times)


def measure(*, quick: bool) -> list[Row]:
    """Return all rows."""
    share = 10 if quick else 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [
        watched("watched step, MLP 3x256", 1.02, mlp_step(clip=False), 200 // share, 20),
        watched("watched step, MLP 3x256 that clips", 0.97, mlp_step(clip=True), 200 // share, 20),
    ]
    rows.append(
        read_alone("fused norm read alone, MLP 3x256", mlp_step(clip=False), 200 // share, 20)
    )
    rows += read("MLP 3x256", mlp_step(clip=False), 200 // share)
    torch.set_num_threads(threads)
    rows += read("GPT 10.8M", gpt_step(), 20 // share + 4)
    rows.append(read_alone("fused norm read alone, GPT 10.8M", gpt_step(), 40 // share + 2, 1))
    rows.append(watched("watched step, GPT 10.8M", 1.01, gpt_step(), 40 // share + 2, 1))
    small = [(64,), (32, 32), (16,), (32, 16), (8,), (8, 16)]
    rows += clipping("6 small tensors", small, 20000 // share, {"idle": 0.4, "active": 1.05})
    many = [(64,), (64, 64)] * 75
    rows += clipping("150 small tensors", many, 3000 // share, {"idle": 1.0, "active": 1.05})
    rows += clipping(
        "GPT-2 small, 124M", gpt2_small(), 60 // share + 4, {"idle": 0.35, "active": 1.05}
    )
    rows.append(one_pass("GPT-2 small, 124M", gpt2_small(), 60 // share + 4))
    what = "clip + skip folded into fused AdamW, GPT-2 small, 124M"
    rows.append(treated(what, gpt2_small(), 30 // share + 4, 0.85))
    return rows


def show(rows: list[Row]) -> Table:
    """Return the table."""
    table = Table(
        "what", "reference µs", "ours µs", "extra ms", "median", "mean", "bound", box=None
    )
    for row in rows:
        style = "" if row.median <= row.bound else "bold red"
        table.add_row(
            row.what,
            f"{row.reference_us:,.0f}",
            f"{row.ours_us:,.0f}",
            f"{(row.ours_us - row.reference_us) / 1e3:.2f}",
            f"[{style}]{row.median:.3f}[/]" if style else f"{row.median:.3f}",
            f"{row.mean:.3f}",
            f"{row.bound:.2f}",
        )
    return table


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/overhead.json"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    arguments = parser.parse_args()
    rows = measure(quick=arguments.quick)
    Console(width=110, file=sys.stdout).print(show(rows))
    result = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": [asdict(row) for row in rows],
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
