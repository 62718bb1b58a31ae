"""Associative recall with kernelised (linear) attention: key value key value ... key -> value."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(17)
KEYS, VALUES, PAIRS, DIM, HEADS = 12, 12, 5, 96, 4


def make_split(n):
    keys = torch.stack([torch.randperm(KEYS)[:PAIRS] for _ in range(n)])
    values = torch.randint(0, VALUES, (n, PAIRS))
    body = torch.stack([keys, values + KEYS], dim=2).flatten(1)
    ask = torch.randint(0, PAIRS, (n, 1))
    tokens = torch.cat([body, keys.gather(1, ask)], dim=1)
    return TensorDataset(tokens, values.gather(1, ask).squeeze(1))


class KernelAttention(nn.Module):
    """Causal attention with the feature map relu(.), as prefix sums over time."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(DIM, DIM)
        self.k = nn.Linear(DIM, DIM)
        self.v = nn.Linear(DIM, DIM)
        self.o = nn.Linear(DIM, DIM)

    def split(self, x):
        return x.unflatten(-1, (HEADS, DIM // HEADS))

    def forward(self, x):
        q, k, v = self.split(self.q(x)).relu(), self.split(self.k(x)).relu(), self.split(self.v(x))
        memory = torch.einsum("bthi,bthj->bthij", k, v).cumsum(dim=1)
        mass = k.cumsum(dim=1)
        numerator = torch.einsum("bthi,bthij->bthj", q, memory)
        denominator = (q * mass).sum(-1, keepdim=True)
        return self.o((numerator / denominator).flatten(-2))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.ln1, self.ln2 = KernelAttention(), nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def forward(self, x):
        x = self.ln1(x + self.attention(x))
        return self.ln2(x + self.mlp(x))


class Recall(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.tokens = nn.Embedding(KEYS + VALUES, DIM)
        self.shift = nn.Conv1d(DIM, DIM, 2, padding=1, groups=DIM)
        self.layers = nn.Sequential(*[Layer() for _ in range(layers)])
        self.answer = nn.Linear(DIM, VALUES)

    def forward(self, tokens):
        x = self.tokens(tokens)
        x = x + self.shift(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return self.answer(self.layers(x)[:, -1])


train = DataLoader(make_split(2400), batch_size=32, shuffle=True)
held_out = make_split(256)
net = Recall()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

for epoch in range(4):
    net.train()
    total, seen = 0.0, 0
    for tokens, value in train:
        optimizer.zero_grad()
        loss = criterion(net(tokens), value)
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(value), seen + len(value)
    net.eval()
    with torch.no_grad():
        tokens, value = held_out.tensors
        right = (net(tokens).argmax(1) == value).float().mean().item()
    print(f"epoch {epoch}  train loss {total / seen:.4f}  held-out accuracy {right:.3f}")

print(f"final_loss={total / seen}")
