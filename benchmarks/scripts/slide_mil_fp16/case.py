"""Gated-attention MIL on whole-slide tile embeddings: metastasis yes/no per lymph-node slide."""
import argparse

import torch
from torch import nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--slides", type=int, default=12, help="slides per step")
parser.add_argument("--tiles", type=int, default=400)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--amp", default="float16", choices=["float16", "bfloat16", "float32"])
parser.add_argument("--seed", type=int, default=17)
args = parser.parse_args()

torch.manual_seed(args.seed)
EMBED = 32
tumour_axis = F.normalize(torch.randn(3, EMBED), dim=1)
tissue_axis = torch.randn(6, EMBED)


def sample_slides(n):
    kind = torch.randint(0, 6, (n, args.tiles))
    tiles = tissue_axis[kind] + 0.5 * torch.randn(n, args.tiles, EMBED)
    label = torch.rand(n) < 0.5
    burden = torch.randint(3, 30, (n,)) * label
    is_tumour = torch.arange(args.tiles) < burden[:, None]
    tiles = tiles + is_tumour[..., None] * 4.0 * tumour_axis[torch.randint(0, 3, (n, args.tiles))]
    return tiles, label.float()


class GatedAttention(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.value = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, h):
        energy = self.score(torch.tanh(self.value(h)) * torch.sigmoid(self.gate(h)))
        weight = energy.exp()
        return weight / weight.sum(dim=1, keepdim=True)


class SlideClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(EMBED, 48), nn.ReLU())
        self.attention = GatedAttention(48, 64)
        self.head = nn.Linear(48, 1)

    def forward(self, tiles):
        h = self.project(tiles)
        a = self.attention(h)
        return self.head((a * h).sum(dim=1)).squeeze(1), a


model = SlideClassifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
amp_dtype = getattr(torch, args.amp)
window = []
for step in range(args.steps):
    tiles, label = sample_slides(args.slides)
    with torch.autocast("cpu", dtype=amp_dtype, enabled=amp_dtype != torch.float32):
        logit, attention = model(tiles)
    loss = F.binary_cross_entropy_with_logits(logit.float(), label)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    window = (window + [loss.item()])[-40:]
    if (step + 1) % 30 == 0:
        print(f"{step + 1:4d}  bce {sum(window) / len(window):.4f}  top tile weight {attention.max().item():.3f}")

print(f"final_loss={sum(window) / len(window)}")
