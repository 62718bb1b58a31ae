"""Hamiltonian network for a double-well oscillator: the vector field is a gradient of the learned energy.

SGDR restarts every EPOCHS_PER_CYCLE epochs; an exponential average of the weights is what gets evaluated.
"""
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

EPOCHS, EPOCHS_PER_CYCLE, BATCH = 30, 6, 128


def true_field(q, p):
    """H = p^2/2 - 2 q^2 + q^4/4 (times 1000: forces in millinewton)."""
    return 1000 * p, 1000 * (4 * q - q ** 3)


def make_data(n, seed):
    g = torch.Generator().manual_seed(seed)
    state = torch.stack([6 * torch.rand(n, generator=g) - 3, 8 * torch.rand(n, generator=g) - 4], dim=1)
    dq, dp = true_field(state[:, 0], state[:, 1])
    field = torch.stack([dq, dp], dim=1)
    return state, field + 50 * torch.randn(n, 2, generator=g)


class HNN(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(),
                                    nn.Linear(hidden, hidden), nn.Tanh(),
                                    nn.Linear(hidden, 1, bias=False))

    def forward(self, state):
        with torch.enable_grad():
            state = state.detach().requires_grad_()
            grad, = torch.autograd.grad(self.energy(state).sum(), state, create_graph=True)
        return 1000 * torch.stack([grad[:, 1], -grad[:, 0]], dim=1)


class Trainer:
    def __init__(self, model, lr):
        self.model = model
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = None

    def loss(self, state, field):
        return (self.model(state) - field).pow(2).sum(dim=1).mean()

    def fit(self, state, field, test):
        batches = len(state) // BATCH
        self.scheduler = CosineAnnealingWarmRestarts(self.optimizer, T_0=EPOCHS_PER_CYCLE * batches, eta_min=1e-5)
        for epoch in range(EPOCHS):
            order, total = torch.randperm(len(state)), 0.0
            for rows in order[:batches * BATCH].view(batches, BATCH):
                loss = self.loss(state[rows], field[rows])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                self.ema.update_parameters(self.model)
                total += loss.item() / batches
            print(f"epoch {epoch:2d}  lr {self.scheduler.get_last_lr()[0]:.5f}  train {total:13.1f}  "
                  f"ema test {self.evaluate(*test):13.1f}")

    def evaluate(self, state, field):
        return (self.ema(state) - field).detach().pow(2).sum(dim=1).mean().item()


if __name__ == "__main__":
    torch.manual_seed(2)
    trainer = Trainer(HNN(), lr=1e-2)
    test = make_data(1000, seed=1)
    trainer.fit(*make_data(4096, seed=0), test)
    print(f"final_loss={trainer.evaluate(*test)}")
