"""`trainings.py KIND,KIND OUT`: a small training in each way torch.distributed has, over gloo.

Writes `OUT-KIND.RANK.json` with the bits of the weights that the rank ends with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from small_nets import STEPS, Net, batch, sgd, stages
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

CPU = torch.device("cpu")


@dataclass
class Training:
    """One way to train: the model as it is wrapped, and what differs from the plain loop."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    is_data_parallel: bool = True
    microbatches: int = 1
    leaves_out: bool = False
    clip: float | None = None
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    no_sync: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    uneven: int = 0
    schedule: Any = None

    def run(self, rank: int) -> None:
        with self.around():
            for step in range(STEPS + self.uneven * rank):
                self.backward(step, rank)
                if self.clip is not None:
                    torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()

    def backward(self, step: int, rank: int) -> None:
        if self.schedule is not None:
            x, y = batch(step, 0)
            _ = self.schedule.step(x) if rank == 0 else self.schedule.step(target=y, losses=[])
            return
        for part in range(self.microbatches):
            is_last = part == self.microbatches - 1
            x, y = batch(step * self.microbatches + part, rank if self.is_data_parallel else 0)
            with contextlib.nullcontext() if is_last else self.no_sync():
                extra = not self.leaves_out or step % 2 == 0
                (F.mse_loss(self.model(x, extra), y) / self.microbatches).backward()


def ddp(**settings: Any) -> Training:
    model = DistributedDataParallel(Net(), **settings)
    return Training(model, sgd(model))


def ddp_no_sync() -> Training:
    training = ddp()
    training.microbatches, training.no_sync = 2, training.model.no_sync  # type: ignore[assignment]
    return training


def ddp_join() -> Training:
    training = ddp()
    training.around, training.uneven = training.model.join, 2  # type: ignore[assignment]
    return training


def ddp_unused() -> Training:
    training = ddp(find_unused_parameters=True)
    training.leaves_out = True
    return training


def ddp_hook() -> Training:
    training = ddp()
    training.model.register_comm_hook(None, default_hooks.bf16_compress_hook)  # type: ignore[operator]
    return training


def ddp_zero() -> Training:
    model = DistributedDataParallel(Net())
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), optimizer_class=torch.optim.SGD, lr=0.05, momentum=0.9
    )
    return Training(model, optimizer)


def fsdp2(*shape: int, clip: float | None = None, **settings: Any) -> Training:
    names = ("replicate", "shard")[-max(len(shape), 1) :]
    mesh = init_device_mesh("cpu", shape or (dist.get_world_size(),), mesh_dim_names=names)
    model = Net()
    for layer in list(model.children()):
        fully_shard(layer, mesh=mesh, **settings)
    fully_shard(model, mesh=mesh, **settings)
    return Training(model, sgd(model), clip=clip)


def fsdp1(*, nested: bool = False, **settings: Any) -> Training:
    if nested:
        settings["auto_wrap_policy"] = ModuleWrapPolicy({nn.Linear})
    model = FullyShardedDataParallel(Net(), device_id=CPU, **settings)
    return Training(model, sgd(model))


def tensor_parallel(*, sequence: bool = False) -> Training:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan: dict[str, Any] = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    if sequence:
        column = ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())
        plan |= {"head": column, "extra": column, "norm": SequenceParallel()}
        plan["down"] = RowwiseParallel(output_layouts=Shard(1))
    model = parallelize_module(Net(has_residual=not sequence), mesh, plan)
    return Training(model, sgd(model), is_data_parallel=False)


def pipeline() -> Training:
    rank, size = dist.get_rank(), dist.get_world_size()
    part = stages()[rank]
    schedule = ScheduleGPipe(PipelineStage(part, rank, size, CPU), 2, loss_fn=F.mse_loss)
    return Training(part, sgd(part), is_data_parallel=False, schedule=schedule)


BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
KINDS: dict[str, Callable[[], Training]] = {
    "ddp": ddp,
    "ddp-static": lambda: ddp(static_graph=True),
    "ddp-view": lambda: ddp(gradient_as_bucket_view=True),
    "ddp-hook": ddp_hook,
    "ddp-unused": ddp_unused,
    "ddp-no-sync": ddp_no_sync,
    "ddp-join": ddp_join,
    "ddp-zero": ddp_zero,
    "fsdp2": fsdp2,
    "fsdp2-keep": lambda: fsdp2(reshard_after_forward=False),
    "fsdp2-clip": lambda: fsdp2(clip=0.3),
    "fsdp2-mixed": lambda: fsdp2(mp_policy=BF16),
    "hsdp": lambda: fsdp2(dist.get_world_size() // 2, 2),
    "fsdp1": lambda: fsdp1(use_orig_params=False),
    "fsdp1-orig": lambda: fsdp1(use_orig_params=True),
    "fsdp1-nested": lambda: fsdp1(use_orig_params=True, nested=True),
    "tp": tensor_parallel,
    "tp-sequence": lambda: tensor_parallel(sequence=True),
    "pipeline": pipeline,
}


def local_bits(model: nn.Module) -> Iterator[bytes]:
    for parameter in model.parameters():
        part: Any = parameter.detach()
        part = part.to_local() if hasattr(part, "to_local") else part
        yield part.float().numpy().tobytes()


def main(kinds: str, out: str) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for kind in kinds.split(","):
        training = KINDS[kind]()
        training.run(rank)
        bits = hashlib.sha256(b"".join(local_bits(training.model))).hexdigest()
        with open(f"{out}-{kind}.{rank}.json", "w") as file:
            json.dump({"bits": bits}, file)
        # A reducer that outlives its group waits, with the GIL, for a thread that needs the GIL.
        del training
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
