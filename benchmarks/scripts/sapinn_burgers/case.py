"""Self-adaptive PINN (McClenny & Braga-Neto) for the viscous Burgers equation, u_t + u u_x = nu u_xx."""
import math

import torch

NU = 0.05
ADAM_STEPS, LBFGS_STEPS = 360, 12


def make_points(n_f, n_0, n_b):
    f = torch.rand(n_f, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    x0 = torch.linspace(-1, 1, n_0)[:, None]
    initial = torch.cat([x0, torch.zeros_like(x0)], 1)
    tb = torch.rand(n_b, 1)
    wall = torch.cat([torch.where(torch.arange(n_b)[:, None] % 2 == 0, -1.0, 1.0), tb], 1)
    return f.requires_grad_(True), initial, -torch.sin(math.pi * x0), wall


def mlp(sizes):
    layers = []
    for a, b in zip(sizes[:-1], sizes[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def errors(net, f, initial, u0, wall):
    u = net(f)
    grad = torch.autograd.grad(u.sum(), f, create_graph=True)[0]
    u_x, u_t = grad[:, :1], grad[:, 1:]
    u_xx = torch.autograd.grad(u_x.sum(), f, create_graph=True)[0][:, :1]
    return u_t + u * u_x - NU * u_xx, net(initial) - u0, net(wall)


torch.manual_seed(12)
f, initial, u0, wall = make_points(600, 80, 40)
net = mlp([2, 28, 28, 28, 1])
lam_f = torch.nn.Parameter(torch.rand(len(f), 1))
lam_0 = torch.nn.Parameter(100 * torch.rand(len(initial), 1))

opt_net = torch.optim.Adam(net.parameters(), lr=4e-3)
opt_lam = torch.optim.Adam([lam_f, lam_0], lr=0.05, maximize=True)

plain = []
for step in range(ADAM_STEPS):
    r, e0, eb = errors(net, f, initial, u0, wall)
    saddle = (lam_f * r).pow(2).mean() + (lam_0 * e0).pow(2).mean() + eb.pow(2).mean()
    opt_net.zero_grad()
    opt_lam.zero_grad()
    saddle.backward()
    opt_net.step()
    opt_lam.step()
    plain.append((r.pow(2).mean() + e0.pow(2).mean() + eb.pow(2).mean()).item())
    if step % 60 == 0:
        print(f"adam {step}: saddle {saddle.item():.3f}  unweighted {plain[-1]:.5f}  max lambda {lam_f.max().item():.2f} / {lam_0.max().item():.1f}")

w_f, w_0 = lam_f.detach(), lam_0.detach()
lbfgs = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=8, history_size=30, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    r, e0, eb = errors(net, f, initial, u0, wall)
    value = (w_f * r).pow(2).mean() + (w_0 * e0).pow(2).mean() + eb.pow(2).mean()
    value.backward()
    return value


for it in range(LBFGS_STEPS):
    value = lbfgs.step(closure)
r, e0, eb = errors(net, f, initial, u0, wall)
plain.append((r.pow(2).mean() + e0.pow(2).mean() + eb.pow(2).mean()).item())
print(f"after L-BFGS: weighted {value.item():.3f}")
print(f"unweighted loss: first {plain[0]:.4f}, last {plain[-1]:.6f}")
print(f"final_loss={plain[-1]}")
