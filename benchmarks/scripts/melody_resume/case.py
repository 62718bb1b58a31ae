# Melody model, second session: pick up the checkpoint of the first one and go on with another optimizer.
import io
import math
import random

import torch
from torch import nn

random.seed(6)
torch.manual_seed(6)

SCALES = {"major": [0, 2, 4, 5, 7, 9, 11], "minor": [0, 2, 3, 5, 7, 8, 10], "dorian": [0, 2, 3, 5, 7, 9, 10]}
LENGTH, VOCAB, BATCH = 48, 40, 32


def tune():
    """A motif walks on a scale, comes back transposed, and ends on the tonic; a few notes are ornamented."""
    scale, tonic = SCALES[random.choice(list(SCALES))], random.randrange(5)
    motif, degree = [], random.randrange(4, 10)
    for _ in range(random.choice([6, 8])):
        degree = min(16, max(0, degree + random.choice([-2, -1, 1, 1, 2])))
        motif.append(degree)
    notes = []
    while len(notes) < LENGTH:
        shift = random.choice([0, 0, -2, 2])
        notes += [min(18, max(0, d + shift)) for d in motif]
    pitches = [tonic + 12 * (d // 7) + scale[d % 7] for d in notes]
    return [min(VOCAB - 1, p + (random.random() < 0.03)) for p in pitches[:LENGTH]] + [tonic]


corpus = torch.tensor([tune() for _ in range(1500)])


class MelodyNet(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.pitch = nn.Embedding(VOCAB, dim)
        self.gru = nn.GRU(dim, dim, num_layers=2, batch_first=True, dropout=0.1)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, VOCAB)

    def forward(self, notes):
        hidden, _ = self.gru(self.pitch(notes))
        return self.out(self.norm(hidden))


def session(model, optimizer, schedule, updates, first, log):
    model.train()
    for k in range(updates):
        batch = corpus[torch.randint(len(corpus), (BATCH,))]
        loss = nn.functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        log.append(loss.item())
        if k % 20 == 0:
            print(f"update {first + k:3d} perplexity {math.exp(log[-1]):.2f}")


# Session one: Adam, linear decay.
log = []
model = MelodyNet()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=70)
session(model, optimizer, schedule, 70, 0, log)
disk = io.BytesIO()
torch.save({"model": model.state_dict(), "updates": len(log)}, disk)

# Session two: a fresh process would start here.
disk.seek(0)
state = torch.load(disk, weights_only=True)
model = MelodyNet()
model.load_state_dict(state["model"])
optimizer = torch.optim.SGD(model.parameters(), lr=0.6, momentum=0.9)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
session(model, optimizer, schedule, 90, state["updates"], log)

print(f"final_loss={sum(log[-10:]) / 10}")
