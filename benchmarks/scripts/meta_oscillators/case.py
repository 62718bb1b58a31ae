"""Meta-SGD: learn an initialisation and per-parameter inner rates that fit a damped oscillator from ten samples."""
import argparse
import math

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--iterations", type=int, default=300)
parser.add_argument("--tasks", type=int, default=8)
parser.add_argument("--shots", type=int, default=10)
parser.add_argument("--inner-steps", type=int, default=3)
parser.add_argument("--inner-lr", type=float, default=0.01, help="starting value of the learned rates")
parser.add_argument("--meta-lr", type=float, default=2e-2)
parser.add_argument("--hidden", type=int, default=40)
parser.add_argument("--seed", type=int, default=11)


def sample_task(shots):
    """Displacement of a released mass on a spring with random stiffness, damping and initial push."""
    amplitude = 1.0 + 2.0 * torch.rand(1)
    omega, decay = 1.0 + torch.rand(1), 0.05 + 0.25 * torch.rand(1)
    phase = math.pi * torch.rand(1)
    t = 6.0 * torch.rand(2 * shots, 1)
    x = amplitude * torch.exp(-decay * t) * torch.cos(omega * t + phase)
    t = t / 3.0 - 1.0
    return (t[:shots], x[:shots]), (t[shots:], x[shots:])


def init_params(hidden):
    shapes = [(hidden, 1), (hidden,), (hidden, hidden), (hidden,), (1, hidden), (1,)]
    params = []
    for shape in shapes:
        value = torch.randn(shape) * math.sqrt(2.0 / shape[-1]) if len(shape) == 2 else torch.zeros(shape)
        params.append(value.requires_grad_())
    return params


def net(t, params):
    w1, b1, w2, b2, w3, b3 = params
    h = torch.relu(F.linear(t, w1, b1))
    h = torch.relu(F.linear(h, w2, b2))
    return F.linear(h, w3, b3)


def adapt(params, rates, support, steps, create_graph=True):
    t, x = support
    fast = params
    for _ in range(steps):
        inner_loss = F.mse_loss(net(t, fast), x)
        grads = torch.autograd.grad(inner_loss, fast, create_graph=create_graph)
        fast = [p - a * g for p, a, g in zip(fast, rates, grads)]
    return fast


def evaluate(params, rates, args, n=60):
    generator_state = torch.get_rng_state()
    torch.manual_seed(999)
    total = 0.0
    for _ in range(n):
        support, (t, x) = sample_task(args.shots)
        fast = adapt(params, rates, support, args.inner_steps, create_graph=False)
        total += F.mse_loss(net(t, fast), x).item()
    torch.set_rng_state(generator_state)
    return total / n


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    params = init_params(args.hidden)
    rates = [torch.full_like(p, args.inner_lr).requires_grad_() for p in params]
    meta_optimizer = torch.optim.Adam(params + rates, lr=args.meta_lr)

    for it in range(args.iterations):
        meta_loss = 0.0
        for _ in range(args.tasks):
            support, (t, x) = sample_task(args.shots)
            fast = adapt(params, rates, support, args.inner_steps)
            meta_loss = meta_loss + F.mse_loss(net(t, fast), x) / args.tasks
        meta_optimizer.zero_grad()
        meta_loss.backward()
        meta_optimizer.step()
        if it % 30 == 0:
            print(f"iteration {it:4d}  query loss {meta_loss.item():.4f}")

    print(f"final_loss={evaluate(params, rates, args)}")


if __name__ == "__main__":
    main()
