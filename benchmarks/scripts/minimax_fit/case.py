"""Minimax fit of a tabulated pump curve by an interior-point method.

minimise t  subject to  -t <= features @ c - y <= t,
with the barrier  s * t - sum log(t - r) - sum log(t + r)  for growing s.
"""
import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(40)

POINTS, DEGREE = 400, 11

u = torch.sort(2 * torch.rand(POINTS) - 1).values
y = torch.exp(-u) * torch.sin(5 * u) + 0.4 * torch.abs(u - 0.3) + 0.02 * (torch.rand(POINTS) - 0.5)
features = torch.cos(torch.arange(DEGREE + 1.0) * torch.arccos(u).unsqueeze(1))


def barrier(z, s):
    c, t = z[:-1], z[-1]
    r = features @ c - y
    return s * t - torch.log(t - r).sum() - torch.log(t + r).sum()


def newton_direction(z, s):
    value = barrier(z, s)
    z.grad = None
    value.backward()
    hess = torch.autograd.functional.hessian(lambda v: barrier(v, s), z.detach())
    return value.item(), z.grad, -torch.linalg.solve(hess, z.grad)


@torch.no_grad()
def backtrack(z, direction, value, slope, s):
    """Halve the step until the trial point is feasible and good enough."""
    size = 1.0
    for trial in range(60):
        new = barrier(z + size * direction, s).item()
        if new <= value + 0.1 * size * slope:
            return size, trial
        size *= 0.5
    return 0.0, trial


start = torch.zeros(DEGREE + 2)
start[-1] = 1.01 * y.abs().max()
z = start.clone().requires_grad_(True)

s, trials, updates = float(POINTS), 0, 0
while 2 * POINTS / s > 1e-6:
    for _ in range(30):
        value, grad, direction = newton_direction(z, s)
        slope = (grad @ direction).item()
        if -slope < 1e-9 * max(1.0, abs(value)):
            break
        size, halvings = backtrack(z, direction, value, slope, s)
        with torch.no_grad():
            z += size * direction
        updates += 1
        trials += halvings
    print(f"s {s:10.3g}  barrier {value:14.4f}  |grad| {grad.norm():10.3g}  t {z[-1].item():.6f}  halvings so far {trials}")
    s *= 8.0

with torch.no_grad():
    worst = (features @ z[:-1] - y).abs().max().item()
print(f"{updates} Newton steps, largest residual {worst:.6f}")
print(f"final_loss={z[-1].item()}")
