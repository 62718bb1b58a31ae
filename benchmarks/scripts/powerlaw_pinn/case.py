import math

import torch

torch.manual_seed(4)
torch.set_default_dtype(torch.float32)

# Plane Poiseuille flow of a shear-thinning (power-law) fluid, half-width 1
N_INDEX = 0.7
CONSISTENCY = 1.3
PRESSURE_DROP = 1.0


def exact(y):
    m = 1 / N_INDEX
    return (PRESSURE_DROP / CONSISTENCY) ** m / (m + 1) * (1 - y.abs() ** (m + 1))


class Velocity(torch.nn.Module):
    """u(y) = (1 - y^2) f(y^2): no slip at the walls and symmetric about the axis by construction."""

    def __init__(self, width=40, depth=3):
        super().__init__()
        layers = [torch.nn.Linear(1, width), torch.nn.Tanh()]
        for _ in range(depth - 1):
            layers += [torch.nn.Linear(width, width), torch.nn.Tanh()]
        self.f = torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))

    def forward(self, y):
        s = y * y
        return (1 - s) * self.f(2 * s - 1)


def derivative(out, y):
    return torch.autograd.grad(out, y, torch.ones_like(out), create_graph=True)[0]


def residual(net, y):
    y = y.requires_grad_(True)
    shear = derivative(net(y), y)
    viscosity = CONSISTENCY * shear.abs() ** (N_INDEX - 1)
    stress = viscosity * shear
    return derivative(stress, y) + PRESSURE_DROP


def refine(net, points, n_new=16):
    """Residual-based adaptive refinement (RAR): add the worst points of a fine grid."""
    candidates = torch.linspace(0, 1, 201)[:, None]
    score = residual(net, candidates).detach().abs().squeeze(1)
    worst = torch.topk(score, n_new).indices
    return torch.cat([points.detach(), candidates.detach()[worst]])


net = Velocity()
points = torch.rand(128, 1)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 720)
grid = torch.linspace(0, 1, 101)[:, None]

for it in range(720):
    if it > 0 and it % 180 == 0:
        points = refine(net, points)
        print(f"it {it}: {len(points)} collocation points")
    r = residual(net, points)
    loss = r.pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if it % 100 == 0:
        with torch.no_grad():
            err = (net(grid) - exact(grid)).pow(2).mean().sqrt() / exact(grid).pow(2).mean().sqrt()
        print(f"it {it}: residual {loss.item():.3e}  rel. error {err.item():.3e}")

with torch.no_grad():
    err = (net(grid) - exact(grid)).pow(2).mean().sqrt() / exact(grid).pow(2).mean().sqrt()
print(f"relative L2 error {err.item():.3e}")
print(f"final_loss={loss.item()}")
