"""Next-day variance of a stock panel: GRU over returns, sector embedding taken from the risk model."""
import torch
from torch import nn

torch.manual_seed(17)
N_STOCKS, N_DAYS, WINDOW, SECTORS = 60, 700, 30, 8


def simulate_panel():
    """GARCH(1,1) with Student-t shocks and sector-wide jump days, in percent."""
    sector = torch.randint(0, SECTORS, (N_STOCKS,))
    alpha = 0.05 + 0.05 * torch.rand(N_STOCKS)
    beta = 0.85 + 0.03 * torch.rand(N_STOCKS)
    omega = 0.04 + 0.06 * torch.rand(N_STOCKS)
    var = omega / (1 - alpha - beta)
    shocks = torch.distributions.StudentT(4.0).sample((N_DAYS, N_STOCKS)) / 2**0.5
    jumps = (torch.rand(N_DAYS, SECTORS) < 0.004).float() * 8 * torch.randn(N_DAYS, SECTORS)
    returns, variances = [], []
    for day in range(N_DAYS):
        r = var.sqrt() * shocks[day] + jumps[day, sector]
        returns.append(r)
        var = omega + alpha * r**2 + beta * var
        variances.append(var)
    return torch.stack(returns, 1), torch.stack(variances, 1), sector


returns, variance, sector = simulate_panel()
risk_model_loadings = torch.randn(SECTORS, 6)


class VarianceGRU(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.sector = nn.Embedding.from_pretrained(risk_model_loadings, freeze=True)
        self.gru = nn.GRU(2, hidden, batch_first=True)
        self.skip = nn.Linear(2, 1)
        self.head = nn.Sequential(nn.Linear(hidden + 6, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, window, sector_id):
        features = torch.stack([window, window**2], -1)
        _, h = self.gru(features)
        level = self.head(torch.cat([h[0], self.sector(sector_id)], -1))
        return (level + self.skip(features[:, -1])).squeeze(-1)


def draw(n, first, last):
    stock = torch.randint(0, N_STOCKS, (n,))
    day = torch.randint(first + WINDOW, last, (n,))
    cols = day[:, None] - torch.arange(WINDOW - 1, -1, -1)
    return returns[stock[:, None], cols], sector[stock], variance[stock, day]


model = VarianceGRU()
trainable = filter(lambda p: p.requires_grad, model.parameters())
optimizer = torch.optim.SGD(trainable, lr=0.005, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=400)

holdout = draw(512, 550, N_DAYS)
for step in range(400):
    window, sector_id, target = draw(64, 0, 550)
    loss = nn.functional.mse_loss(model(window, sector_id), target)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trainable, max_norm=1.0)
    optimizer.step()
    scheduler.step()
    if step % 50 == 0:
        with torch.no_grad():
            check = nn.functional.mse_loss(model(*holdout[:2]), holdout[2])
        print(f"step {step:4d}  train {loss.item():10.4f}  holdout {check.item():10.4f}")

with torch.no_grad():
    final = nn.functional.mse_loss(model(*holdout[:2]), holdout[2]).item()
print(f"final_loss={final}")
