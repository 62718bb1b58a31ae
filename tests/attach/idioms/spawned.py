import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ending import digest
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def work(rank, world, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(rank)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(12):
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if rank == 0:
        print("loss", loss.item(), flush=True)
        digest(model.parameters())
        sys.stdout.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, args=(2, os.path.abspath("store")), nprocs=2)
