"""Coupling flow on two moons, functional style: parameters are a dict, gradients come from torch.func."""
import math

import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.func import functional_call, grad_and_value

torch.manual_seed(3)


class Coupling(nn.Module):
    def __init__(self, flip, hidden=32):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2))

    def forward(self, x):
        a, b = x[:, :1], x[:, 1:]
        if self.flip:
            a, b = b, a
        log_scale, shift = self.net(a).chunk(2, dim=1)
        log_scale = 1.5 * torch.tanh(log_scale)
        b = b * torch.exp(log_scale) + shift
        return (torch.cat([b, a], 1) if self.flip else torch.cat([a, b], 1)), log_scale.squeeze(1)


class Flow(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(flip=bool(i % 2)) for i in range(depth))

    def forward(self, x):
        log_det = torch.zeros(len(x))
        for layer in self.layers:
            x, term = layer(x)
            log_det = log_det + term
        return x, log_det


flow = Flow()
params = {k: v.detach().clone() for k, v in flow.named_parameters()}
velocity = {k: torch.zeros_like(v) for k, v in params.items()}

points, _ = make_moons(4000, noise=0.06, random_state=3)
points = torch.tensor(points, dtype=torch.float32)
points = (points - points.mean(0)) / points.std(0)


def nll(params, x):
    z, log_det = functional_call(flow, params, (x,))
    return (0.5 * z.pow(2).sum(1) + math.log(2 * math.pi) - log_det).mean()


value_and_grad = grad_and_value(nll)
LR, WARM = 0.004, 160


def momentum(step):
    return 0.6 + 0.35 * step / WARM


@torch.no_grad()
def update(params, velocity, grads, mu):
    for name, g in grads.items():
        velocity[name].mul_(mu).add_(g)
        params[name].sub_(LR * (g + mu * velocity[name]))


history = []
for step in range(400):
    x = points[torch.randint(0, len(points), (256,))]
    grads, loss = value_and_grad(params, x)
    update(params, velocity, grads, momentum(step))
    history.append(loss.item())
    if step % 20 == 0:
        norm = math.sqrt(sum(float(g.square().sum()) for g in grads.values()))
        print(f"step {step:3d} nll {loss.item():8.4f} gradient {norm:8.3f}")

print(f"final_loss={sum(history[-10:]) / 10}")
