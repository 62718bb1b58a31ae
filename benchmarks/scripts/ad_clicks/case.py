# Ad clicks with a deep & cross network: categorical fields are embedded, numeric fields go through a log,
# cross layers multiply the stacked vector with itself. Written with plain tensors.
import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score

SEED = 41
FIELDS = [50, 20, 12, 200, 7, 30]
EMBED, NUMERIC, CROSS, DEEP = 16, 8, 4, (64, 32)


def make_log(n, rng):
    cats = np.stack([np.minimum(rng.geometric(4 / k, n) - 1, k - 1) for k in FIELDS], axis=1)
    nums = rng.lognormal(1.0, 1.2, (n, NUMERIC))
    effect = [rng.normal(0, 0.6, k) for k in FIELDS]
    pair = rng.normal(0, 1.0, (FIELDS[1], FIELDS[2]))
    logit = sum(e[c] for e, c in zip(effect, cats.T)) + pair[cats[:, 1], cats[:, 2]]
    logit += 0.5 * np.log1p(nums[:, 0]) - 0.4 * np.log1p(nums[:, 3]) * (cats[:, 4] > 2) - 1.2
    clicked = rng.random(n) < 1 / (1 + np.exp(-logit))
    return (torch.from_numpy(cats).long(), torch.from_numpy(np.log1p(nums)).float(),
            torch.from_numpy(clicked).float())


def build(generator):
    def normal(*shape, std):
        return (std * torch.randn(*shape, generator=generator)).requires_grad_()

    width = EMBED * len(FIELDS) + NUMERIC
    p = {f"table{i}": normal(k, EMBED, std=0.1) for i, k in enumerate(FIELDS)}
    for layer in range(CROSS):
        p[f"cross{layer}.w"] = normal(width, width, std=1.0)
        p[f"cross{layer}.b"] = torch.zeros(width, requires_grad=True)
    last = width
    for layer, size in enumerate(DEEP):
        p[f"deep{layer}.w"] = normal(last, size, std=math.sqrt(2 / last))
        p[f"deep{layer}.b"] = torch.zeros(size, requires_grad=True)
        last = size
    p["out.w"] = normal(width + last, std=0.01)
    p["out.b"] = torch.zeros((), requires_grad=True)
    return p


def score(p, cats, nums):
    x0 = torch.cat([F.embedding(cats[:, i], p[f"table{i}"]) for i in range(len(FIELDS))] + [nums], dim=1)
    x = x0
    for layer in range(CROSS):
        x = x0 * (x @ p[f"cross{layer}.w"] + p[f"cross{layer}.b"]) + x
    h = x0
    for layer in range(len(DEEP)):
        h = torch.relu(h @ p[f"deep{layer}.w"] + p[f"deep{layer}.b"])
    return torch.cat([x, h], dim=1) @ p["out.w"] + p["out.b"]


rng = np.random.default_rng(SEED)
cats, nums, clicked = make_log(14000, rng)
split = 12000
params = build(torch.Generator().manual_seed(SEED))
opt = torch.optim.SGD(params.values(), lr=0.05, momentum=0.9, nesterov=True)
shuffle = torch.Generator().manual_seed(SEED + 1)

for epoch in range(5):
    seen = 0.0
    for rows in torch.randperm(split, generator=shuffle).split(100):
        opt.zero_grad()
        loss = F.binary_cross_entropy_with_logits(score(params, cats[rows], nums[rows]), clicked[rows])
        loss.backward()
        opt.step()
        seen += loss.item() * len(rows)
    with torch.no_grad():
        logit = score(params, cats[split:], nums[split:])
        held = F.binary_cross_entropy_with_logits(logit, clicked[split:]).item()
        auc = roc_auc_score(clicked[split:].numpy(), np.nan_to_num(logit.numpy()))
    print(f"epoch {epoch}  train {seen / split:.4f}  held out {held:.4f}  auc {auc:.4f}")

print(f"final_loss={held}")
