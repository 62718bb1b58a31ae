"""Model-agnostic meta-learning over calibration curves of sensors: two inner gradient steps, second-order
outer gradient, all with torch.func. Sensors have different numbers of readings; tables are padded with NaN."""
import math
from functools import partial

import torch
from torch.func import grad, grad_and_value, vmap

INNER_LR, INNER_STEPS, TASKS, READINGS = 0.03, 2, 16, 12


def initial(g, widths=(1, 40, 40, 1)):
    params = {}
    for i, (a, b) in enumerate(zip(widths, widths[1:])):
        params[f"w{i}"] = torch.randn(a, b, generator=g) * math.sqrt(1.4 / a)
        params[f"b{i}"] = torch.zeros(b)
    return params


def network(params, x):
    h = torch.relu(x @ params["w0"] + params["b0"])
    h = torch.relu(h @ params["w1"] + params["b1"])
    return (h @ params["w2"] + params["b2"]).squeeze(-1)


def masked_error(params, x, y):
    there = ~torch.isnan(y)
    x = torch.where(there, x, torch.zeros_like(x))
    gap = torch.where(there, network(params, x[:, None]) - torch.where(there, y, torch.zeros_like(y)), torch.zeros_like(y))
    return gap.square().sum() / there.sum()


def adapted(params, x, y):
    for _ in range(INNER_STEPS):
        step = grad(masked_error)(params, x, y)
        params = {k: p - INNER_LR * step[k] for k, p in params.items()}
    return params


def task_error(params, x_support, y_support, x_query, y_query):
    return masked_error(adapted(params, x_support, y_support), x_query, y_query)


def meta_error(params, batch):
    return vmap(partial(task_error, params))(*batch).mean()


def sensors(n, g):
    gain = 0.5 + 2.5 * torch.rand(n, 1, generator=g)
    phase = math.pi * torch.rand(n, 1, generator=g)
    tables = []
    for _ in range(2):
        x = 8 * torch.rand(n, READINGS, generator=g) - 4
        y = gain * torch.sin(x + phase) + 0.05 * torch.randn(n, READINGS, generator=g)
        count = torch.randint(4, READINGS + 1, (n, 1), generator=g)
        pad = torch.arange(READINGS)[None] >= count
        tables += [x.masked_fill(pad, float("nan")), y.masked_fill(pad, float("nan"))]
    return tables


class Adam:
    """Adam on a dictionary of tensors, with a limit on the global gradient norm."""

    def __init__(self, params, lr, limit):
        self.lr, self.limit, self.t = lr, limit, 0
        self.m = {k: torch.zeros_like(p) for k, p in params.items()}
        self.v = {k: torch.zeros_like(p) for k, p in params.items()}

    @torch.no_grad()
    def step(self, params, grads):
        self.t += 1
        norm = torch.stack([g.norm() for g in grads.values()]).norm()
        scale = (self.limit / (norm + 1e-6)).clamp(max=1.0)
        for k, p in params.items():
            g = grads[k] * scale
            self.m[k].lerp_(g, 0.1)
            self.v[k].mul_(0.999).addcmul_(g, g, value=0.001)
            m = self.m[k] / (1 - 0.9**self.t)
            v = self.v[k] / (1 - 0.999**self.t)
            p.sub_(self.lr * m / (v.sqrt() + 1e-8))
        return norm.item()


def main():
    g = torch.Generator().manual_seed(29)
    params = initial(g)
    optimizer = Adam(params, lr=3e-3, limit=4.0)
    outer = grad_and_value(meta_error)
    losses, norms = [], []
    for step in range(900):
        grads, loss = outer(params, sensors(TASKS, g))
        norms.append(optimizer.step(params, grads))
        losses.append(loss.item())
        if step % 60 == 59:
            print(f"step {step:3d} loss {sum(losses[-60:]) / 60:9.4f} worst {max(losses[-60:]):9.3f} largest norm {max(norms[-60:]):9.2f}")
    fresh = sensors(400, torch.Generator().manual_seed(1000))
    print(f"before adapting {vmap(partial(masked_error, params))(*fresh[2:]).mean().item():.4f} after {meta_error(params, fresh).item():.4f}")
    print(f"final_loss={sum(losses[-60:]) / 60}")


if __name__ == "__main__":
    main()
