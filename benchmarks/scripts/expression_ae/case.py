"""Denoising autoencoder for bulk RNA-seq: latent programmes from log-CPM, any number of genes."""
import torch
from torch import nn


def simulate(n, genes, programmes=10, seed=0):
    g = torch.Generator().manual_seed(seed)
    loading = torch.randn(programmes, genes, generator=g) * (torch.rand(programmes, genes, generator=g) < 0.3)
    activity = torch.randn(n, programmes, generator=g)
    base = 2.5 + 1.5 * torch.randn(genes, generator=g)
    rate = torch.exp(base + 0.5 * activity @ loading)
    depth = torch.exp(0.3 * torch.randn(n, 1, generator=g))
    counts = torch.poisson(rate * depth, generator=g)
    cpm = counts / counts.sum(1, keepdim=True) * 1e4
    logged = torch.log1p(cpm)
    return logged


class GeneAutoencoder(nn.Module):
    def __init__(self, latent=16, hidden=96, dropout=0.2):
        super().__init__()
        self.latent, self.hidden = latent, hidden
        self.drop = nn.Dropout(dropout)
        self.bottleneck = nn.Sequential(nn.ReLU(), nn.Linear(hidden, latent))
        self.expand = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU())
        self.first = None
        self.readout = None

    def _build(self, genes):
        self.first = nn.Linear(genes, self.hidden)
        self.readout = nn.Linear(self.hidden, genes)

    def encode(self, x):
        if self.first is None:
            self._build(x.shape[1])
        return self.bottleneck(self.first(self.drop(x)))

    def forward(self, x):
        hidden = self.expand(self.encode(x))
        return self.readout(hidden)


class Trainer:
    def __init__(self, model, lr=3e-3, weight_decay=1e-5, patience=5):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=patience)

    def epoch(self, data, batch_size=64):
        self.model.train()
        for batch in data[torch.randperm(len(data))].split(batch_size):
            loss = nn.functional.mse_loss(self.model(batch), batch)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()

    @torch.no_grad()
    def score(self, data):
        self.model.eval()
        return nn.functional.mse_loss(self.model(data), data).item()

    def run(self, train, val, epochs):
        for epoch in range(epochs):
            self.epoch(train)
            val_loss = self.score(val)
            self.scheduler.step(val_loss)
            if epoch % 5 == 4:
                print(f"epoch {epoch + 1}: val mse {val_loss:.4f}  lr {self.optimizer.param_groups[0]['lr']:.1e}")
        return val_loss


def main():
    torch.manual_seed(7)
    expression = simulate(1500, genes=400)
    train, val = expression[:1200], expression[1200:]
    centre = train.mean(0)
    train, val = train - centre, val - centre
    print(f"{len(train)} samples, variance {val.var().item():.3f}")
    trainer = Trainer(GeneAutoencoder())
    final = trainer.run(train, val, epochs=40)
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
