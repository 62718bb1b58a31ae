"""Depth of nested brackets, token by token, with a small decoder of linear attention and squared ReLU."""
import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

SYMBOLS, MAX_DEPTH = 6, 10


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(d // self.heads)
        y = torch.einsum("bhij,bhjd->bhid", scores.tril() / n, v)
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class SquaredReLU(nn.Module):
    def forward(self, x):
        return torch.relu(x) ** 2


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attend = Attention(dim, heads)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), SquaredReLU(), nn.Linear(4 * dim, dim))
        self.open_attend = nn.Parameter(torch.tensor(0.1))
        self.open_feed = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        x = x + self.open_attend * self.attend(x)
        x = x + self.open_feed * self.feed(x)
        return x


class BracketModel(nn.Module):
    def __init__(self, dim, depth, heads, length):
        super().__init__()
        self.token = nn.Embedding(SYMBOLS, dim)
        self.place = nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.head = nn.Linear(dim, MAX_DEPTH + 1)

    def forward(self, tokens):
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def sample(n, length, generator):
    """Symbols 0 and 1 open, 2 and 3 close, 4 and 5 are letters; the answer is the depth after each."""
    tokens = torch.randint(0, SYMBOLS, (n, length), generator=generator)
    level, levels = torch.zeros(n, dtype=torch.long), []
    for t in range(length):
        move = (tokens[:, t] < 2).long() - ((tokens[:, t] == 2) | (tokens[:, t] == 3)).long()
        level = (level + move).clamp(0, MAX_DEPTH)
        levels.append(level)
    return tokens, torch.stack(levels, dim=1)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--dim", type=int, default=32)
    ap.add_argument("--depth", type=int, default=8)
    ap.add_argument("--length", type=int, default=20)
    ap.add_argument("--steps", type=int, default=260)
    args = ap.parse_args()

    torch.manual_seed(8)
    generator = torch.Generator().manual_seed(80)
    model = BracketModel(args.dim, args.depth, 4, args.length)
    opt = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98))
    tail = []
    for step in range(args.steps):
        tokens, depth = sample(16, args.length, generator)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), depth.flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
        tail.append(loss.item())
        if step % 20 == 0:
            print(f"{step:4d} {loss.item():.4f}")
    print(f"final_loss={sum(tail[-20:]) / 20}")


if __name__ == "__main__":
    main()
