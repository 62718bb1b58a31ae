"""Number of descendants in a tree: hand-written attention of every node over its children; leaves have none."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(3)
NODES, DIM = 12, 48


class RandomTrees(Dataset):
    """Trees of 2..12 nodes; each node sees only its children. Target: how many nodes hang below each node."""

    def __init__(self, n):
        self.items = []
        for _ in range(n):
            size = int(torch.randint(2, NODES + 1, ()))
            parent = [-1] + [int(torch.randint(0, i, ())) for i in range(1, size)]
            sees = torch.zeros(NODES, NODES, dtype=torch.bool)
            below = torch.zeros(NODES)
            for i in range(size - 1, 0, -1):
                sees[parent[i], i] = True
                below[parent[i]] += below[i] + 1
            real = torch.arange(NODES) < size
            mark = torch.stack([real.float(), sees.sum(1).float() / 3], dim=1)
            self.items.append((mark, sees, real, below))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class ChildAttention(nn.Module):
    def __init__(self, dim, heads=4):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x, sees):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
        weight = score.masked_fill(~sees[:, None], float("-inf")).softmax(-1)
        weight = weight.masked_fill(~sees[:, None], 0.0)
        pooled = (weight @ v).transpose(1, 2).reshape(b, n, d)
        return x + self.out(pooled)


class Descendants(nn.Module):
    def __init__(self, layers=4):
        super().__init__()
        self.embed = nn.Linear(2, DIM)
        self.attend = nn.ModuleList(ChildAttention(DIM) for _ in range(layers))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))
            for _ in range(layers))
        self.readout = nn.Linear(DIM, 1)

    def forward(self, mark, sees):
        x = self.embed(mark)
        for attend, feed in zip(self.attend, self.feed):
            x = attend(x, sees)
            x = x + feed(x)
        return self.readout(x).squeeze(-1)


def masked_error(predicted, below, real):
    return ((predicted - below) ** 2)[real].mean()


train, valid = RandomTrees(1200), RandomTrees(200)
loader = DataLoader(train, batch_size=40, shuffle=True)
model = Descendants()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
best, patience = float("inf"), 0

for epoch in range(7):
    for mark, sees, real, below in loader:
        loss = masked_error(model(mark, sees), below, real)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mark, sees, real, below = next(iter(DataLoader(valid, batch_size=200)))
        error = masked_error(model(mark, sees), below, real).item()
    print(f"epoch {epoch}  train {loss.item():.4f}  valid {error:.4f}")
    patience = 0 if error < best else patience + 1
    best = min(best, error)
    if patience == 3:
        break

print(f"final_loss={best}")
