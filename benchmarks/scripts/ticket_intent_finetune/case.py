# %% [markdown]
# Intent detection on support tickets. A small encoder is first trained with masked tokens on
# unlabelled tickets, then fine-tuned on the labelled ones with discriminative learning rates.

# %%
import random

import torch
import torch.nn.functional as F
from torch import nn

random.seed(5)
torch.manual_seed(5)

TOPICS = {
    "refund": "refund money charged twice invoice card bank return payback amount".split(),
    "login": "password login account locked reset email token verify sign access".split(),
    "shipping": "parcel courier late tracking delivery address depot box lost driver".split(),
    "bug": "crash screen error update freeze button app version log restart".split(),
    "praise": "great thanks love helpful team quick friendly happy perfect smooth".split(),
}
FILLER = "the a my is was i it to and please for with this on in not of you have since".split()
VOCAB = ["<pad>", "<mask>", "<cls>"] + FILLER + [w for ws in TOPICS.values() for w in ws]
INDEX = {w: i for i, w in enumerate(VOCAB)}
NAMES = list(TOPICS)
LENGTH = 18


def ticket():
    """Topic words lead, a second topic may be mentioned after the word 'not'."""
    main, other = random.sample(NAMES, 2)
    words = []
    for _ in range(LENGTH - 1):
        r = random.random()
        if r < 0.50:
            words.append(random.choice(FILLER[:15] + FILLER[16:]))
        elif r < 0.84:
            words.append(random.choice(TOPICS[main]))
        elif len(words) < LENGTH - 2:
            words += ["not", random.choice(TOPICS[other])]
    return ["<cls>"] + words[: LENGTH - 1], NAMES.index(main)


def batch(n):
    rows, labels = zip(*(ticket() for _ in range(n)))
    ids = [[INDEX[w] for w in row] + [0] * (LENGTH - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(labels)


# %%
class Encoder(nn.Module):
    def __init__(self, dim=48, heads=4, depth=3):
        super().__init__()
        self.tokens = nn.Embedding(len(VOCAB), dim, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True) for _ in range(depth)
        )

    def forward(self, ids):
        x = self.tokens(ids) + self.places
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=ids == 0)
        return x


encoder = Encoder()
lm_head = nn.Linear(48, len(VOCAB))
opt = torch.optim.AdamW([*encoder.parameters(), *lm_head.parameters()], lr=2e-3)
for step in range(100):
    ids, _ = batch(32)
    hide = (torch.rand(ids.shape) < 0.2) & (ids > 2)
    hidden = lm_head(encoder(ids.masked_fill(hide, 1)))
    mlm = F.cross_entropy(hidden[hide], ids[hide])
    opt.zero_grad()
    mlm.backward()
    opt.step()
    if step % 30 == 0:
        print(f"mlm {step:4d} {mlm.item():.3f}")

# %%
EPOCHS, PER_EPOCH = 3, 50
head = nn.Sequential(nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, len(NAMES)))
optimizer = torch.optim.AdamW(
    [
        {"params": encoder.parameters(), "lr": 5e-4},
        {"params": head.parameters(), "lr": 3e-2},
    ],
    weight_decay=0.01,
)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=3e-2, epochs=EPOCHS, steps_per_epoch=PER_EPOCH, pct_start=0.2
)
model = nn.ModuleDict({"encoder": encoder, "head": head})
for epoch in range(EPOCHS):
    total = 0.0
    for _ in range(PER_EPOCH):
        ids, y = batch(32)
        logits = model["head"](model["encoder"](ids)[:, 0])
        loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() / PER_EPOCH
    print(f"epoch {epoch} loss {total:.4f}")

print(f"final_loss={total}")
