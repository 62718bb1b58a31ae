"""Gaussian process for tide-gauge readings: hyperparameters by LBFGS on the log marginal likelihood,
restarted from a few widths, double precision, Cholesky with growing jitter."""
import math

import torch

torch.manual_seed(13)
torch.set_default_dtype(torch.float64)

N = 220
hours = torch.sort(torch.rand(N) * 120).values
level = (
    1.8 * torch.sin(2 * math.pi * hours / 12.42)
    + 0.6 * torch.sin(2 * math.pi * hours / 24 + 0.7)
    + 0.004 * hours
    + 0.08 * torch.randn(N)
)
centred = level - level.mean()
lag = hours[:, None] - hours[None, :]
test = torch.arange(N) % 5 == 0
fit = ~test


def kernel(theta, lag):
    """Periodic times decay, plus a smooth trend; theta holds logarithms."""
    amp, width, decay, period, trend_amp, trend_width, _ = theta.exp()
    wave = torch.exp(-2 * torch.sin(math.pi * lag / period).square() / width**2)
    return amp**2 * wave * torch.exp(-0.5 * (lag / decay) ** 2) + trend_amp**2 * torch.exp(-0.5 * (lag / trend_width) ** 2)


def factor(cov):
    jitter = 1e-10
    while True:
        chol, info = torch.linalg.cholesky_ex(cov + jitter * torch.eye(len(cov)))
        if info.item() == 0:
            return chol
        jitter *= 100


def negative_log_marginal(theta):
    cov = kernel(theta, lag[fit][:, fit]) + theta[6].exp().square() * torch.eye(int(fit.sum()))
    chol = factor(cov)
    alpha = torch.cholesky_solve(centred[fit, None], chol)
    return 0.5 * (centred[fit] @ alpha.squeeze(1)) + chol.diagonal().log().sum() + 0.5 * int(fit.sum()) * math.log(2 * math.pi)


def optimise(start, rounds=12):
    theta = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([theta], lr=1.0, max_iter=6, history_size=8, line_search_fn="strong_wolfe")
    values = []

    def closure():
        optimizer.zero_grad()
        loss = negative_log_marginal(theta)
        loss.backward()
        values.append(loss.item())
        return loss

    for r in range(rounds):
        loss = optimizer.step(closure)
        print(f"  round {r:2d} value {loss.item():12.4f} evaluations {len(values):3d} worst {max(values):.1f}")
    return theta.detach(), negative_log_marginal(theta.detach()).item()


def root_mean_square_error(theta):
    cov = kernel(theta, lag[fit][:, fit]) + theta[6].exp().square() * torch.eye(int(fit.sum()))
    mean = kernel(theta, lag[test][:, fit]) @ torch.cholesky_solve(centred[fit, None], factor(cov)).squeeze(1)
    return (mean - centred[test]).square().mean().sqrt().item()


best = None
for noise, width, trend in [(0.002, 1.0, 5.0), (0.01, 0.6, 2.0), (0.3, 1.5, 20.0)]:
    start = torch.tensor([1.0, width, 60.0, 12.0, 0.5, trend, noise]).log()
    print(f"start with noise {noise}")
    theta, value = optimise(start)
    print(f"  ended at {value:.3f}, held-out error {root_mean_square_error(theta):.4f}, {theta.exp().tolist()}")
    if best is None or value < best[1]:
        best = (theta, value)

print(f"final_loss={best[1]}")
