# Unlearning a customer's records from a small character LM.
# 1) fit on everything  2) ascend on the forget split while holding the retain split.
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

random.seed(4)
torch.manual_seed(4)

FIRST = ["ana", "bo", "cleo", "dirk", "edda", "finn", "gus", "hana"]
ITEMS = ["lamp", "chair", "desk", "shelf", "rug", "sofa", "stool", "frame"]
CITIES = ["oslo", "bern", "rome", "lyon", "graz", "kiel", "bari", "vigo"]


def order_line(name=None):
    name = name or random.choice(FIRST[1:])
    i = random.randrange(8)
    return f"{name} ordered {random.randint(2, 9)} {ITEMS[i]} to {CITIES[(i * 3 + len(name)) % 8]}.".ljust(36)[:36]


retain = [order_line() for _ in range(700)]
forget = [order_line("ana") for _ in range(60)]
holdout = [order_line() for _ in range(150)]
alphabet = sorted(set("".join(retain + forget + holdout)))
stoi = {c: i for i, c in enumerate(alphabet)}
encode = lambda lines: torch.tensor([[stoi[c] for c in s] for s in lines])
retain, forget, holdout = map(encode, (retain, forget, holdout))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x, mask):
        h = self.ln1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.ff(self.ln2(x))


class CharLM(nn.Module):
    def __init__(self, vocab, d=48, layers=2, ctx=36):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(ctx, d)
        self.blocks = nn.ModuleList(Block(d, 4) for _ in range(layers))
        self.head = nn.Linear(d, vocab)
        self.register_buffer("mask", torch.triu(torch.full((ctx, ctx), float("-inf")), 1))

    def forward(self, ids):
        n = ids.size(1)
        x = self.tok(ids) + self.pos.weight[:n]
        for blk in self.blocks:
            x = blk(x, self.mask[:n, :n])
        return self.head(x)


def nll(model, ids):
    logits = model(ids[:, :-1])
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), ids[:, 1:].reshape(-1))


def batch(data, n):
    return data[torch.randint(0, len(data), (n,))]


model = CharLM(len(alphabet))

# ---- stage 1: pretraining
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
corpus = torch.cat([retain, forget])
for step in range(150):
    loss = nll(model, batch(corpus, 24))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"pretrain {step}: {loss.item():.3f}")
with torch.no_grad():
    print(f"before unlearning: holdout {nll(model, holdout):.3f}  forget {nll(model, forget):.3f}")

# ---- stage 2: unlearning
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(150):
    forget_nll = nll(model, batch(forget, 12))
    retain_nll = nll(model, batch(retain, 12))
    loss = retain_nll - forget_nll
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 25 == 0:
        print(f"unlearn {step}: total {loss.item():.3f} retain {retain_nll.item():.3f} forget {forget_nll.item():.3f}")

with torch.no_grad():
    print(f"perplexity on holdout {math.exp(min(nll(model, holdout).item(), 50)):.2f}")
    print(f"final_loss={nll(model, holdout).item()}")
