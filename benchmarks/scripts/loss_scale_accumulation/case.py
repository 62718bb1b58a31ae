"""Two-tower matcher of noisy views; micro-batches accumulate under a fixed loss scale, the batch grows over time."""
import torch
from torch import nn
import torch.nn.functional as F

LOSS_SCALE = 2.0 ** 15
STAGES = [(60, 1), (50, 2), (40, 4), (30, 8)]       # (updates, micro-batches per update)
MICRO = 24


class View(nn.Module):
    def __init__(self, inputs, width, out):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                                 nn.Linear(width, out))

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)


class World:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)
        self.left = torch.randn(8, 30, generator=self.g)
        self.right = torch.randn(8, 20, generator=self.g)

    def pairs(self, n):
        z = torch.randn(n, 8, generator=self.g)
        a = torch.tanh(z @ self.left) + 0.1 * torch.randn(n, 30, generator=self.g)
        b = torch.sin(z @ self.right * 0.5) + 0.1 * torch.randn(n, 20, generator=self.g)
        return a, b


class Matcher(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = View(30, 64, 16), View(20, 64, 16)
        self.log_temperature = nn.Parameter(torch.tensor(1.0))

    def forward(self, a, b):
        logits = self.log_temperature.exp() * self.a(a) @ self.b(b).T
        target = torch.arange(len(a))
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def main():
    torch.manual_seed(0)
    world, model = World(4), Matcher()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    held_out = World(4)
    held_out.g.manual_seed(99)
    exam = [held_out.pairs(MICRO) for _ in range(20)]
    update = 0
    for updates, parts in STAGES:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * parts ** 0.5
        for _ in range(updates):
            shown = 0.0
            for _ in range(parts):
                loss = model(*world.pairs(MICRO))
                (loss * (LOSS_SCALE / parts)).backward()
                shown += loss.item() / parts
            for p in model.parameters():
                p.grad.div_(LOSS_SCALE)
            norm = nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            optimizer.zero_grad()
            if update % 20 == 0:
                print(f"update {update:4d}  batch {MICRO * parts:4d}  loss {shown:.4f}  norm {norm.item():.3f}")
            update += 1
    with torch.no_grad():
        final = sum(model(a, b).item() for a, b in exam) / len(exam)
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
