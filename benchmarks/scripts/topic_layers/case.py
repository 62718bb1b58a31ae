"""Next-word model on Python's help texts: tied embeddings, a gated convolution stack, rates that differ by depth."""
import re
from dataclasses import dataclass

import torch
from torch import nn
import torch.nn.functional as F
from pydoc_data.topics import topics


@dataclass(frozen=True)
class Config:
    vocab: int = 400
    context: int = 16
    width: int = 64
    layers: int = 3
    batch: int = 64
    rounds: int = 12
    steps_per_round: int = 30
    lr: float = 0.15
    momentum: float = 0.8
    top_boost: float = 2.0
    seed: int = 3


def words(cfg):
    tokens = re.findall(r"[a-z]+|[^\sa-z]", " ".join(topics[k] for k in sorted(topics)).lower())[:60000]
    counts = {}
    for token in tokens:
        counts[token] = counts.get(token, 0) + 1
    common = sorted(counts, key=lambda t: (-counts[t], t))[:cfg.vocab - 1]
    index = {t: i + 1 for i, t in enumerate(common)}
    return torch.tensor([index.get(t, 0) for t in tokens])


class GatedConv(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)

    def forward(self, x):
        return x + F.glu(self.conv(F.pad(self.norm(x), (self.pad, 0))), dim=1)


class WordModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed = nn.Embedding(cfg.vocab, cfg.width)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.stack = nn.ModuleDict({f"depth{i}": GatedConv(cfg.width, 2 ** i) for i in range(cfg.layers)})
        self.norm = nn.LayerNorm(cfg.width)
        self.read = nn.Linear(cfg.width, cfg.vocab)
        self.read.weight = self.embed.weight

    def forward(self, ids):
        h = self.embed(ids).transpose(1, 2)
        for block in self.stack.values():
            h = block(h)
        return self.read(self.norm(h.transpose(1, 2)))


def boost_by_depth(model, cfg):
    """Let deeper blocks learn faster: depth0 x1, depth1 x2, depth2 x4."""
    for i, block in enumerate(model.stack.values()):
        factor = cfg.top_boost ** i
        for p in block.parameters():
            p.register_hook(lambda grad, factor=factor: grad * factor)


def make_sampler(ids, cfg, generator):
    def sample(n=cfg.batch):
        at = torch.randint(0, len(ids) - cfg.context - 1, (n,), generator=generator)
        window = ids[at[:, None] + torch.arange(cfg.context + 1)]
        return window[:, :-1], window[:, 1:]
    return sample


def one_round(model, optimizer, sample, cfg):
    model.train()
    boost_by_depth(model, cfg)
    total = 0.0
    for _ in range(cfg.steps_per_round):
        x, y = sample()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / cfg.steps_per_round


@torch.no_grad()
def validate(model, sample):
    model.eval()
    x, y = sample(256)
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    ids = words(cfg)
    cut = int(0.9 * len(ids))
    fit_sample = make_sampler(ids[:cut], cfg, torch.Generator().manual_seed(1))
    test_sample = make_sampler(ids[cut:], cfg, torch.Generator().manual_seed(2))
    model = WordModel(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=cfg.momentum)
    for number in range(cfg.rounds):
        mean = one_round(model, optimizer, fit_sample, cfg)
        print(f"round {number:2d} train {mean:.4f} test {validate(model, test_sample):.4f}")
    print(f"final_loss={mean}")


if __name__ == "__main__":
    main()
