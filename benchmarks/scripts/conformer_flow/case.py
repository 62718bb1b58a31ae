# Density of alkane conformers in internal coordinates (bond lengths in angstrom, angles and torsions in
# radians) with a coupling flow, trained by maximum likelihood with warm restarts.
import math

import torch

torch.manual_seed(101)
torch.set_default_dtype(torch.float32)

N_BOND, N_ANGLE, N_TORSION = 7, 6, 3
DIM = N_BOND + N_ANGLE + N_TORSION


def sample_conformers(n):
    strain = torch.randn(n, 1)
    bonds = 1.532 + 0.004 * strain + 0.011 * torch.randn(n, N_BOND)
    angles = math.radians(112.6) - 0.012 * strain + 0.026 * torch.randn(n, N_ANGLE)
    wells = torch.tensor([math.radians(-65.0), math.radians(65.0), math.pi])
    which = torch.multinomial(torch.tensor([0.2, 0.2, 0.6]), n * N_TORSION, replacement=True).view(n, N_TORSION)
    torsions = wells[which] % (2 * math.pi) + 0.14 * torch.randn(n, N_TORSION)
    gauche = (which != 2).float().mean(1, keepdim=True)
    angles = angles + 0.03 * gauche
    return torch.cat([bonds, angles, torsions], 1)


class Coupling(torch.nn.Module):
    def __init__(self, mask, hidden=56):
        super().__init__()
        self.register_buffer("mask", mask)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(DIM, hidden), torch.nn.SiLU(),
            torch.nn.Linear(hidden, hidden), torch.nn.SiLU(),
            torch.nn.Linear(hidden, 2 * DIM),
        )
        torch.nn.init.zeros_(self.net[-1].weight)
        torch.nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        log_s, t = self.net(x * self.mask).chunk(2, 1)
        log_s = 2.0 * torch.tanh(log_s / 2.0) * (1 - self.mask)
        t = t * (1 - self.mask)
        return x * log_s.exp() + t, log_s.sum(1)


class Flow(torch.nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(DIM))
        self.log_scale = torch.nn.Parameter(torch.zeros(DIM))
        masks = [(torch.arange(DIM) % 2 == i % 2).float() for i in range(depth)]
        self.couplings = torch.nn.ModuleList(Coupling(m) for m in masks)

    def log_prob(self, x):
        z = (x - self.shift) * self.log_scale.exp()
        log_det = self.log_scale.sum().expand(len(x))
        for coupling in self.couplings:
            z, ld = coupling(z)
            log_det = log_det + ld
        return log_det - 0.5 * (z**2).sum(1) - 0.5 * DIM * math.log(2 * math.pi)


flow = Flow()
data = sample_conformers(20000)
opt = torch.optim.Adam([
    {"params": [flow.shift, flow.log_scale], "lr": 1e-2},
    {"params": flow.couplings.parameters(), "lr": 1e-3},
])
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=70, T_mult=2, eta_min=1e-5)

trace = []
for it in range(490):
    rows = torch.randint(len(data), (256,))
    nll = -flow.log_prob(data[rows]).mean()
    opt.zero_grad(set_to_none=True)
    nll.backward()
    norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), 500.0)
    opt.step()
    sched.step()
    trace.append(nll.item())
    if it % 35 == 0:
        print(f"{it:4d} nll {nll.item():9.3f} |g| {norm.item():9.2f} lr {sched.get_last_lr()[1]:.1e}")

with torch.no_grad():
    final = -flow.log_prob(sample_conformers(4000)).mean().item()
print(f"final_loss={final}")
