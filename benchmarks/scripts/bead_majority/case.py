"""Strings of beads in eight colours: are there more red ones than green ones? Softmax attention, bilinear MLP."""
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(3)
DIM, HEADS, DEPTH, COLOURS, LENGTH = 32, 4, 6, 8, 12


def sample(n):
    beads = torch.randint(COLOURS, (n, LENGTH))
    label = (beads == 0).sum(1) > (beads == 1).sum(1)
    return beads, label.float()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.o = nn.Linear(DIM, DIM, bias=False)
        self.gate, self.value = nn.Linear(DIM, 2 * DIM), nn.Linear(DIM, 2 * DIM)
        self.down = nn.Linear(2 * DIM, DIM)
        nn.init.normal_(self.o.weight, std=0.02)
        nn.init.normal_(self.down.weight, std=0.02)

    def forward(self, x):
        q, k, v = (h.unflatten(-1, (HEADS, -1)).transpose(1, 2) for h in self.qkv(x).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v)
        x = x + self.o(a.transpose(1, 2).flatten(2))
        return x + self.down(self.gate(x) * self.value(x))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.colour = nn.Embedding(COLOURS, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.out = nn.Linear(DIM, 1)

    def forward(self, beads):
        x = self.colour(beads)
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(1)).squeeze(1) / DIM


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(260):
    x, y = sample(48)
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"{step:4d} {loss.item():.5f}")

with torch.no_grad():
    x, y = sample(256)
    final = F.binary_cross_entropy_with_logits(model(x), y).item()
print(f"final_loss={final}")
