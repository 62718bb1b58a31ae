# %% Imputing CpG methylation from sparse bisulfite coverage
import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(2)
rng = np.random.default_rng(2)

# %% reads: methylated / total per sample and CpG, many sites uncovered
N_SAMPLES, N_CPG, N_STATES = 1400, 240, 6
state = rng.dirichlet(np.full(N_STATES, 0.4), size=N_SAMPLES)
profile = rng.beta(0.5, 0.5, size=(N_STATES, N_CPG)).clip(0.02, 0.98)
truth = state @ profile
site_depth = rng.gamma(0.7, 14.0, size=N_CPG)
sample_depth = rng.lognormal(0.0, 0.5, size=(N_SAMPLES, 1))
total = rng.poisson(site_depth * sample_depth)
total[rng.random(total.shape) < 0.25] = 0
methylated = rng.binomial(total, truth)
with np.errstate(invalid="ignore", divide="ignore"):
    beta = methylated / total
beta = torch.tensor(beta, dtype=torch.float32)
depth = torch.tensor(total, dtype=torch.float32)
print(f"{torch.isnan(beta).float().mean().item():.0%} of the matrix uncovered")
train_rows, test_rows = torch.arange(1200), torch.arange(1200, N_SAMPLES)


# %% model
class Imputer(nn.Module):
    def __init__(self, sites, hidden=96, latent=12):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2 * sites, hidden), nn.SiLU(), nn.Linear(hidden, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU())
        self.mean = nn.Linear(hidden, sites)
        self.log_precision = nn.Parameter(torch.full((sites,), 0.5))

    def forward(self, values, seen):
        filled = torch.where(seen, values - 0.5, torch.zeros(()))
        h = self.decoder(self.encoder(torch.cat([filled, seen.float()], dim=1)))
        mu = torch.sigmoid(self.mean(h)).clamp(1e-3, 1 - 1e-3)
        kappa = 2.0 + self.log_precision.clamp(max=5).exp()
        return mu * kappa, (1 - mu) * kappa


def negative_log_density(a, b, value):
    value = value.clamp(0.005, 0.995)
    return -(torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)
             + (a - 1) * value.log() + (b - 1) * torch.log1p(-value))


def step_loss(model, rows, hide=0.2):
    values = beta[rows]
    covered = ~torch.isnan(values)
    visible = covered & (torch.rand_like(values) > hide)
    a, b = model(values, visible)
    weight = depth[rows].clamp(max=20) / 20
    nll = negative_log_density(a[covered], b[covered], values[covered])
    return (weight[covered] * nll).sum() / weight[covered].sum()


# %% training
model = Imputer(N_CPG)
slow = [model.log_precision]
fast = [p for n, p in model.named_parameters() if n != "log_precision"]
optimizer = torch.optim.AdamW([{"params": fast, "lr": 2e-3}, {"params": slow, "lr": 2e-2, "weight_decay": 0.0}])

for epoch in range(24):
    model.train()
    epoch_losses = []
    for rows in train_rows[torch.randperm(len(train_rows))].split(48):
        loss = step_loss(model, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_losses.append(loss.item())
    if epoch % 4 == 3:
        model.eval()
        with torch.no_grad():
            a, b = model(beta[test_rows], ~torch.isnan(beta[test_rows]))
            rmse = (a / (a + b) - torch.tensor(truth[1200:], dtype=torch.float32)).pow(2).mean().sqrt()
        print(f"epoch {epoch + 1}: nll {np.mean(epoch_losses):.4f}  rmse to truth {rmse.item():.4f}")

# %%
with torch.no_grad():
    torch.manual_seed(0)
    final = step_loss(model, test_rows).item()
print(f"final_loss={final}")
