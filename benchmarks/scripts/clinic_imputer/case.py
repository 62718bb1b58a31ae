"""Impute missing laboratory values: masked autoencoder for a table in raw units with holes."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

PATIENTS, LABS = 3000, 18


def laboratory_table(gen):
    state = torch.randn(PATIENTS, 4, generator=gen)
    load = torch.randn(4, LABS, generator=gen)
    level = 10 ** torch.linspace(-3, 5, LABS)
    values = level * torch.exp(0.5 * state @ load + 0.1 * torch.randn(PATIENTS, LABS, generator=gen))
    holes = torch.rand(PATIENTS, LABS, generator=gen) < torch.linspace(0.05, 0.6, LABS)
    values[holes] = float("nan")
    # assays beyond their measuring range report infinity
    top = torch.nanquantile(values, 0.99, dim=0)
    values[values > top] = float("inf")
    return values


class LogScaler:
    """Logarithm, then centre and spread of what was measured."""

    def fit(self, table):
        logs = torch.log10(table)
        measured = torch.isfinite(logs)
        n = measured.sum(0)
        logs = torch.where(measured, logs, torch.zeros_like(logs))
        self.centre = logs.sum(0) / n
        self.spread = ((logs - self.centre).square() * measured).sum(0).div(n - 1).sqrt()
        return self

    def transform(self, table):
        return (torch.log10(table) - self.centre) / self.spread


class Imputer(nn.Module):
    def __init__(self, scaler, width=128, code=6):
        super().__init__()
        self.scaler = scaler
        self.encode = nn.Sequential(nn.Linear(2 * LABS, width), nn.GELU(), nn.Linear(width, code))
        self.decode = nn.Sequential(nn.Linear(code, width), nn.GELU(), nn.Linear(width, LABS))

    def forward(self, raw, shown):
        z = self.scaler.transform(raw)
        z = torch.where(shown, z, torch.zeros_like(z))
        return self.decode(self.encode(torch.cat([z, shown.float()], dim=1)))

    def loss(self, raw, hide):
        measured = torch.isfinite(raw)
        shown = measured & (torch.rand_like(raw) >= hide)
        guess = self(raw, shown)
        target = self.scaler.transform(raw)[measured]
        return F.smooth_l1_loss(guess[measured], target)


def main():
    torch.manual_seed(23)
    gen = torch.Generator().manual_seed(5)
    table = laboratory_table(gen)
    missing = 1 - torch.isfinite(table).float().mean().item()
    print(f"{table.shape[0]} patients, {missing:.0%} of the cells unusable")
    train, test = random_split(TensorDataset(table), [2500, 500], generator=gen)
    model = Imputer(LogScaler().fit(table[train.indices]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(train, batch_size=100, shuffle=True, generator=gen)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, epochs=24, steps_per_epoch=len(loader))
    for epoch in range(24):
        model.train()
        for (raw,) in loader:
            optimizer.zero_grad()
            loss = model.loss(raw, hide=0.3)
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            held_out = model.loss(table[test.indices], hide=0.3).item()
        if epoch % 4 == 3:
            print(f"epoch {epoch + 1}: train {loss.item():.4f}  held out {held_out:.4f}")
    print(f"final_loss={held_out}")


if __name__ == "__main__":
    main()
