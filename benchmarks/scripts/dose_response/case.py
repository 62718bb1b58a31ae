"""Fit Hill curves to a screen of 150 compounds: one plate of measurements per update."""
import argparse

import numpy as np
import torch


def simulate_screen(compounds, rng):
    ec50 = 10 ** rng.uniform(-1.9, 1.0, compounds)
    slope = rng.uniform(0.8, 2.5, compounds)
    top = rng.uniform(0.6, 1.4, compounds)
    doses = np.array([0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    which = np.repeat(np.arange(compounds), len(doses) * 3)
    dose = np.tile(np.repeat(doses, 3), compounds)
    effect = top[which] * dose ** slope[which] / (ec50[which] ** slope[which] + dose ** slope[which])
    effect = effect + 0.03 * rng.standard_normal(len(effect))
    to = lambda a: torch.as_tensor(a, dtype=torch.float32)
    return torch.as_tensor(which), to(dose), to(effect)


def hill(params, which, dose):
    top, ec50, slope = (params[k][which] for k in ("top", "ec50", "slope"))
    occupied = dose ** slope
    return top * occupied / (ec50 ** slope + occupied)


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--compounds", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--plate", type=int, default=384)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    which, dose, effect = simulate_screen(args.compounds, np.random.default_rng(args.seed))
    params = {
        "top": torch.ones(args.compounds, requires_grad=True),
        "ec50": torch.ones(args.compounds, requires_grad=True),
        "slope": torch.full((args.compounds,), 1.5, requires_grad=True),
    }
    opt = torch.optim.Adam(params.values(), lr=args.lr)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.epochs, eta_min=args.lr / 20)

    for epoch in range(args.epochs):
        squares = 0.0
        for plate in torch.randperm(len(which)).split(args.plate):
            residual = hill(params, which[plate], dose[plate]) - effect[plate]
            loss = residual.square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            squares += residual.detach().square().sum().item()
        plan.step()
        if epoch % 6 == 0:
            print(f"epoch {epoch:3d}  rmse {(squares / len(which)) ** 0.5:.4f}  lr {plan.get_last_lr()[0]:.4f}")

    print(f"final_loss={squares / len(which)}")


if __name__ == "__main__":
    main()
