"""Motor insurance claim counts: Poisson regression with a small residual MLP, exposure as offset."""
import warnings

import numpy as np
import torch
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(8)
rng = np.random.default_rng(8)


def load_portfolio(n):
    age = rng.integers(18, 90, n)
    power = rng.integers(4, 16, n)
    density = rng.lognormal(5.5, 1.6, n)
    bonus = rng.gamma(2.0, 12.0, n) + 50
    region = rng.integers(0, 12, n)
    fleet = rng.random(n) < 0.03
    exposure = np.where(fleet, rng.lognormal(3.5, 1.0, n), rng.beta(2, 1, n))
    rate = np.exp(-2.2 + 0.7 * (age < 25) + 0.02 * (bonus - 70) + 0.12 * np.log(density) + 0.05 * (region % 4)
                  + 0.04 * power)
    claims = rng.poisson(np.minimum(rate * exposure * rng.gamma(2.0, 0.5, n), 400))
    x = np.column_stack([age / 50 - 1, power / 8 - 1, np.log(density) / 3 - 2, (bonus - 74) / 17, np.eye(12)[region]])
    as_tensor = lambda a: torch.as_tensor(a, dtype=torch.float32)
    return as_tensor(x), as_tensor(np.log(exposure)), as_tensor(claims)


class FrequencyNet(nn.Module):
    def __init__(self, n_features, width=64):
        super().__init__()
        self.inp = nn.Linear(n_features, width)
        self.res = nn.ModuleList([nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
                                  for _ in range(3)])
        self.out = nn.Linear(width, 1)
        nn.init.constant_(self.out.bias, -2.0)

    def forward(self, x, log_exposure):
        h = torch.relu(self.inp(x))
        for block in self.res:
            h = h + block(h)
        return self.out(h).squeeze(1) + log_exposure


x_train, e_train, y_train = load_portfolio(6000)
x_test, e_test, y_test = load_portfolio(3000)

model = FrequencyNet(x_train.shape[1])
trainable = filter(lambda p: p.requires_grad, model.parameters())
optimizer = torch.optim.SGD(trainable, lr=0.1, momentum=0.9, nesterov=True)
poisson = nn.PoissonNLLLoss(log_input=True, full=True)

for epoch in range(8):
    running = []
    for idx in torch.randperm(len(x_train)).split(64):
        optimizer.zero_grad()
        loss = poisson(model(x_train[idx], e_train[idx]), y_train[idx])
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, max_norm=0.5)
        optimizer.step()
        running.append(loss.item())
    print(f"epoch {epoch}: train deviance {np.mean(running):.4f}")

with torch.no_grad():
    test_nll = poisson(model(x_test, e_test), y_test).item()
print(f"final_loss={test_nll}")
