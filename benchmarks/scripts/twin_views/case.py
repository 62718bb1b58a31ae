"""Self-supervised embedding of the wine table: two corrupted views, decorrelated features (Barlow style)."""
import torch
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from torch import nn

torch.manual_seed(3)

wine = load_wine()
table = torch.tensor(wine.data, dtype=torch.float32)
table = (table - table.mean(0)) / table.std(0)
held_out = torch.zeros(len(table), dtype=torch.bool)
held_out[torch.randperm(len(table))[:17]] = True
rows = table[~held_out]
print(f"{len(rows)} rows for training, {int(held_out.sum())} held out")


def corrupt(x, share=0.1):
    """Replace some cells of every row by the cell of another row."""
    donor = rows[torch.randint(len(rows), x.shape[:1])]
    return torch.where(torch.rand_like(x) < share, donor, x)


class Projector(nn.Module):
    def __init__(self, width=96, out=24):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.proj = nn.Linear(width, out, bias=False)

    def forward(self, x):
        return self.proj(self.body(x))


def standardised(z):
    centred = z - z.mean(dim=0)
    return centred / (z.std(dim=0) + 1e-5)


def twin_loss(a, b, off_weight=0.02):
    c = standardised(a).T @ standardised(b) / len(a)
    on = (torch.diagonal(c) - 1).pow(2).sum()
    off = (c - torch.diag_embed(torch.diagonal(c))).pow(2).sum()
    return (on + off_weight * off) / len(c)


net = Projector()
decay, plain = [], []
for name, p in net.named_parameters():
    (plain if name.endswith("bias") else decay).append(p)
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=2e-3)
loader = torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True)

for epoch in range(90):
    for x in loader:
        loss = twin_loss(net(corrupt(x)), net(corrupt(x)))
        for group in opt.param_groups:
            for p in group["params"]:
                p.grad = None
        loss.backward()
        opt.step()
    if epoch % 20 == 0:
        print(f"epoch {epoch}: twin loss {loss.item():.4f}")

with torch.no_grad():
    z = torch.nan_to_num(net.body(table))
probe = LogisticRegression(max_iter=2000).fit(z[~held_out], wine.target[~held_out])
print("accuracy of a linear probe:", probe.score(z[held_out], wine.target[held_out]))
print(f"final_loss={loss.item()}")
