"""VAE over 8-bit game tiles with a discretised logistic likelihood per pixel."""
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(5)
SIZE, LATENT = 12, 8


def make_tiles(n):
    """Grass, brick, water and lava tiles, with an occasional pickup drawn on top; values 0..255."""
    yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    base = torch.stack([
        60 + 10 * ((xx + yy) % 2),
        150 - 60 * ((yy % 4 == 0) | ((xx + 3 * (yy // 4)) % 6 == 0)).long(),
        90 + (20 * torch.sin(xx * 0.9 + yy * 0.3)).long(),
        200 + (30 * torch.cos(yy * 0.8)).long(),
    ])
    kind = torch.randint(0, 4, (n,))
    tiles = base[kind] + torch.randint(-20, 21, (n, 1, 1))
    tiles = tiles + torch.randint(-3, 4, (n, SIZE, SIZE))
    has_item = torch.rand(n) < 0.15
    r, c = torch.randint(1, SIZE - 3, (n,)), torch.randint(1, SIZE - 3, (n,))
    for i in torch.nonzero(has_item).flatten().tolist():
        tiles[i, r[i]:r[i] + 2, c[i]:c[i] + 2] = 250
    return tiles.clamp(0, 255)


def discretized_logistic_logp(x, mean, log_scale):
    """log p(x) of pixels rescaled to [-1, 1]; bins are 2/255 wide and the outer two are open."""
    centered = x - mean
    inv_s = torch.exp(-log_scale)
    plus_in = inv_s * (centered + 1.0 / 255.0)
    min_in = inv_s * (centered - 1.0 / 255.0)
    cdf_delta = torch.sigmoid(plus_in) - torch.sigmoid(min_in)
    mid_in = inv_s * centered
    log_pdf_mid = mid_in - log_scale - 2.0 * F.softplus(mid_in)
    inner = torch.where(cdf_delta > 1e-5, torch.log(cdf_delta), log_pdf_mid - math.log(127.5))
    log_cdf_plus = plus_in - F.softplus(plus_in)
    log_one_minus_cdf_min = -F.softplus(min_in)
    return torch.where(x < -0.999, log_cdf_plus, torch.where(x > 0.999, log_one_minus_cdf_min, inner))


class TileVAE(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(SIZE * SIZE, hidden), nn.SiLU(), nn.Linear(hidden, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, hidden), nn.SiLU(),
                                     nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * SIZE * SIZE))

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        mean, log_scale = self.decoder(z).chunk(2, dim=1)
        log_scale = (log_scale - 2.0).clamp(min=-7.0)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(dim=1)
        nll = -discretized_logistic_logp(x, mean, log_scale).sum(dim=1)
        return nll, kl


data = make_tiles(4000).float().flatten(1) / 127.5 - 1.0
held_out, data = data[:400], data[400:]
model = TileVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

step = 0
for epoch in range(12):
    order = torch.randperm(len(data))
    for start in range(0, len(data) - 63, 64):
        x = data[order[start:start + 64]]
        nll, kl = model(x)
        beta = min(1.0, (step + 1) / 200)
        loss = (nll + beta * kl).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
    print(f"epoch {epoch:2d}  nll {nll.mean().item():9.3f}  kl {kl.mean().item():8.3f}")

with torch.no_grad():
    nll, kl = model(held_out)
bits = (nll + kl).mean().item() / (SIZE * SIZE * math.log(2))
print(f"final_loss={bits}")
