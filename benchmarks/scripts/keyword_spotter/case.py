"""Keyword spotting on raw 2 kHz clips with a strided 1-D conv net."""
import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

KEYWORDS = ["up", "down", "left", "right", "stop", "noise"]


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=0.004)
    p.add_argument("--seed", type=int, default=11)
    return p.parse_args()


def synth_clips(n, length=1000, rate=2000.0):
    """Two-formant chirps, one pair of start/stop frequencies per keyword."""
    t = torch.arange(length) / rate
    label = torch.randint(0, len(KEYWORDS), (n,))
    f0 = 120.0 + 70.0 * label[:, None] + 8.0 * torch.randn(n, 1)
    slope = torch.tensor([300.0, -200.0, 120.0, -80.0, 0.0, 0.0])[label][:, None]
    wave = torch.sin(2 * math.pi * (f0 * t + 0.5 * slope * t ** 2))
    wave = wave + 0.5 * torch.sin(2 * math.pi * 1.9 * f0 * t + 6.28 * torch.rand(n, 1))
    wave[label == 5] = torch.randn(int((label == 5).sum()), length)
    gain = 0.5 + torch.rand(n, 1)
    return (gain * wave + 0.1 * torch.randn(n, length)).unsqueeze(1), label


def scaled_normal_(weight, scale=2.0):
    fan_in = weight.shape[-1]
    with torch.no_grad():
        return weight.normal_(0.0, math.sqrt(scale / fan_in))


class Spotter(nn.Module):
    def __init__(self, width=48, n_classes=len(KEYWORDS)):
        super().__init__()
        self.stem = nn.Conv1d(1, width, 16, stride=4)
        self.blocks = nn.ModuleList(
            [nn.Conv1d(width, width, 5, stride=2 if i % 2 else 1, padding=2) for i in range(5)]
        )
        self.fc = nn.Linear(width, n_classes)
        for m in self.modules():
            if isinstance(m, (nn.Conv1d, nn.Linear)):
                scaled_normal_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for conv in self.blocks:
            x = F.relu(conv(x))
        return self.fc(x.mean(dim=-1))


def evaluate(model, clips, labels):
    model.eval()
    with torch.no_grad():
        logits = model(clips)
    model.train()
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    train_x, train_y = synth_clips(640)
    valid_x, valid_y = synth_clips(192)
    model = Spotter()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)

    valid_loss = float("nan")
    for epoch in range(args.epochs):
        order = torch.randperm(len(train_x))
        for idx in order.split(args.batch_size):
            loss = F.cross_entropy(model(train_x[idx]), train_y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        valid_loss, acc = evaluate(model, valid_x, valid_y)
        print(f"epoch {epoch}  train {loss.item():.4f}  valid {valid_loss:.4f}  acc {acc:.3f}")
    print(f"final_loss={valid_loss}")


if __name__ == "__main__":
    main()
