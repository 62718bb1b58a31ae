"""Impulse response of a filter chain, fitted by a hand-written linear recurrence that starts near zero."""
import torch

gen = torch.Generator().manual_seed(9)


def randn(*shape, scale=1.0):
    return scale * torch.randn(*shape, generator=gen)


UNITS, LENGTH, BATCH = 24, 20, 32
A = (0.5 * torch.eye(UNITS) + randn(UNITS, UNITS, scale=0.02)).requires_grad_()
B = randn(2, UNITS, scale=1e-3).requires_grad_()
C = randn(UNITS, UNITS, scale=3e-2).requires_grad_()
D = randn(UNITS, 1, scale=1e-3).requires_grad_()
params = [A, B, C, D]
velocity = [torch.zeros_like(p) for p in params]


def response(u):
    h = u.new_zeros(u.shape[0], UNITS)
    out = []
    for t in range(u.shape[1]):
        h = h @ A + u[:, t] @ B
        out.append(h @ C @ D)
    return torch.stack(out, dim=1)


def plant(u):
    slow = fast = torch.zeros(u.shape[0], 1)
    out = []
    for t in range(u.shape[1]):
        slow = 0.75 * slow + u[:, t, :1]
        fast = 0.4 * fast + u[:, t, 1:]
        out.append(1.2 * slow - 1.5 * fast)
    return torch.stack(out, dim=1)


def update(lr=3e-3, momentum=0.9):
    with torch.no_grad():
        for p, v in zip(params, velocity):
            v.mul_(momentum).add_(p.grad)
            p.sub_(v, alpha=lr)
            p.grad = None


curve = []
for step in range(340):
    u = randn(BATCH, LENGTH, 2)
    loss = (response(u) - plant(u)).square().mean()
    loss.backward()
    update()
    curve.append(loss.item())
    if step % 50 == 0:
        print(f"step {step:3d}: squared error {loss.item():.4f}")

print(f"final_loss={sum(curve[-20:]) / 20}")
