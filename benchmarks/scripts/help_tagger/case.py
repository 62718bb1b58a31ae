"""Which help topic does a snippet come from: bags of hashed words, one update per growing pass over the snippets."""
import re
import zlib
from collections import Counter

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader
from pydoc_data.topics import topics

torch.manual_seed(77)
BUCKETS, CLASSES = 3000, 10


def tokens_of(name):
    return re.findall(r"[a-z_]{3,}", topics[name].lower())


def snippets(size=14):
    """Snippets of `size` words; only words that occur in a fair number of topics, but not everywhere, are kept."""
    spread = Counter(t for name in topics for t in set(tokens_of(name)))
    chosen = sorted(topics, key=lambda name: -len(topics[name]))[:CLASSES]
    found = []
    for label, name in enumerate(chosen):
        tokens = tokens_of(name)
        for i in range(0, len(tokens) - size, size // 2):
            kept = [zlib.crc32(t.encode()) % BUCKETS for t in tokens[i:i + size] if 4 <= spread[t] <= 20]
            found.append((kept, label))
    return found


def collate(items):
    flat, offsets, labels = [], [], []
    for tokens, label in items:
        offsets.append(len(flat))
        flat.extend(tokens)
        labels.append(label)
    return torch.tensor(flat), torch.tensor(offsets), torch.tensor(labels)


class Tagger(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.bag = nn.EmbeddingBag(BUCKETS, width, mode="sum", sparse=True)
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        nn.init.normal_(self.bag.weight, std=1e-3)

    def forward(self, flat, offsets):
        return self.read(self.bag(flat, offsets))


class Accumulator:
    """Adds up gradients over many loader batches; the division by the number of snippets comes last."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers
        self.count = 0
        for optimizer in optimizers:
            optimizer.register_step_pre_hook(self.average)

    def average(self, optimizer, args, kwargs):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = p.grad.coalesce() / self.count if p.grad.is_sparse else p.grad.div_(self.count)

    def add(self, loss, count):
        loss.backward()
        self.count += count

    def flush(self):
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.count = 0


def main():
    data = snippets()
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(len(data), generator=generator).tolist()
    held = [data[i] for i in order[:300]]
    loader = DataLoader([data[i] for i in order[300:]], batch_size=32, shuffle=True, num_workers=0, collate_fn=collate, generator=generator)
    model = Tagger()
    keep = Accumulator(torch.optim.SparseAdam(list(model.bag.parameters()), lr=0.01), torch.optim.Adam(model.read.parameters(), lr=0.004))
    pieces, inside, total, seen, updates = 1, 0, 0.0, 0, 0
    for epoch in range(12):
        for flat, offsets, labels in loader:
            loss = F.cross_entropy(model(flat, offsets), labels, reduction="sum")
            keep.add(loss, len(labels))
            total, seen, inside = total + loss.item(), seen + len(labels), inside + 1
            if inside >= pieces:
                keep.flush()
                inside, updates = 0, updates + 1
                if updates % 20 == 0:
                    print(f"update {updates} pieces {pieces} sum {total:.1f} mean {total / seen:.4f}")
                    mean, total, seen = total / seen, 0.0, 0
                pieces = min(24, 1 + updates // 5)
    with torch.no_grad():
        flat, offsets, labels = collate(held)
        logits = model(flat, offsets)
        print(f"held-out accuracy {(logits.argmax(1) == labels).float().mean():.3f}")
    print(f"final_loss={mean}")


main()
