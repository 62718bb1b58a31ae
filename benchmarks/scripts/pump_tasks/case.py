"""One trunk, three jobs for a pump: remaining life (regression), kind of wear (classes) and the next
vibration spectrum (forecast). The jobs take turns and every part of the network has its own optimizer."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(61)

BINS, KINDS = 20, 4


def machine_data(n):
    wear = torch.rand(n)
    kind = torch.randint(0, KINDS, (n,))
    centre = 3 + 4.5 * kind.float()
    axis = torch.arange(BINS).float()

    def spectrum(wear):
        peak = torch.exp(-0.5 * ((axis - centre[:, None]) / (0.8 + wear[:, None])) ** 2)
        return (0.3 + 2 * wear[:, None]) * peak + 0.05 * torch.randn(n, BINS)

    now, later = spectrum(wear), spectrum((wear + 0.1).clamp(max=1.2))
    return now, {"life": 1 - wear, "kind": kind, "forecast": later}


class Heads(nn.ModuleDict):
    def __init__(self, width):
        super().__init__({
            "life": nn.Linear(width, 1),
            "kind": nn.Linear(width, KINDS),
            "forecast": nn.Linear(width, BINS),
        })


def job_loss(job, out, target):
    if job == "life":
        return F.mse_loss(out.squeeze(1), target)
    if job == "kind":
        return F.cross_entropy(out, target)
    return F.mse_loss(out, target)


def make_step(trunk, heads, trunk_optimizer, head_optimizers):
    def step(job, x, target):
        loss = job_loss(job, heads[job](trunk(x)), target)
        head_optimizers[job].zero_grad()
        loss.backward()
        head_optimizers[job].step()
        trunk_optimizer.step()
        return loss.item()

    return step


@torch.no_grad()
def validate(trunk, heads, x, targets):
    trunk.eval()
    h = trunk(x)
    scores = {job: job_loss(job, head(h), targets[job]).item() for job, head in heads.items()}
    trunk.train()
    return scores


x, targets = machine_data(2304)
x_val, targets_val = machine_data(512)
trunk = nn.Sequential(nn.Linear(BINS, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU())
heads = Heads(32)
trunk_optimizer = torch.optim.SGD(trunk.parameters(), lr=0.01, momentum=0.9)
head_optimizers = {job: torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9) for job, head in heads.items()}
step = make_step(trunk, heads, trunk_optimizer, head_optimizers)

jobs = list(heads)
for epoch in range(14):
    trunk_optimizer.zero_grad()
    seen = {job: [] for job in jobs}
    for turn, rows in enumerate(torch.randperm(len(x)).split(64)):
        job = jobs[turn % len(jobs)]
        seen[job].append(step(job, x[rows], targets[job][rows]))
    scores = validate(trunk, heads, x_val, targets_val)
    print(f"epoch {epoch} " + " ".join(f"{job} {value:.4f}" for job, value in scores.items()))

print(f"final_loss={sum(scores.values())}")
