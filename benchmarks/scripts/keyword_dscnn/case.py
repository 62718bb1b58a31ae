"""Keyword spotting with a depthwise-separable CNN on log-mel patches.

The network carries no batch norm: the DSP target folds nothing and streams frame by frame.
"""
import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--words", type=int, default=6)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--blocks", type=int, default=4)
parser.add_argument("--steps", type=int, default=260)
parser.add_argument("--batch-size", type=int, default=24)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--seed", type=int, default=3)
args = parser.parse_args()

torch.manual_seed(args.seed)
SR, DUR, N_FFT, HOP, MELS = 4000, 0.5, 256, 80, 24


def mel_bank(n_mels, n_fft, sr):
    to_mel = lambda f: 2595.0 * math.log10(1.0 + f / 700.0)
    mels = torch.linspace(to_mel(60.0), to_mel(sr / 2), n_mels + 2)
    hz = 700.0 * (10 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, sr / 2, n_fft // 2 + 1)
    up = (bins[None] - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    down = (hz[2:, None] - bins[None]) / (hz[2:] - hz[1:-1])[:, None]
    return torch.minimum(up, down).clamp(min=0)


class SyntheticWords:
    """Each word is a pair of formant glides; the speaker shifts pitch, loudness and timing."""

    def __init__(self, words):
        self.start = torch.rand(words, 2) * 900 + 250
        self.stop = torch.rand(words, 2) * 900 + 250
        self.bank = mel_bank(MELS, N_FFT, SR)
        self.window = torch.hann_window(N_FFT)

    def batch(self, n):
        y = torch.randint(0, len(self.start), (n,))
        t = torch.linspace(0, 1, int(SR * DUR))
        shift = 1 + 0.06 * torch.randn(n, 1, 1)
        freq = (self.start[y][:, :, None] * (1 - t) + self.stop[y][:, :, None] * t) * shift
        phase = 2 * math.pi * torch.cumsum(freq, -1) / SR + 6.28 * torch.rand(n, 2, 1)
        wave = phase.sin().sum(1) * torch.exp(-((t - 0.5 - 0.1 * torch.randn(n, 1)) ** 2) / 0.08)
        wave = wave + 0.1 * torch.randn_like(wave)
        spec = torch.stft(wave, N_FFT, HOP, window=self.window, return_complex=True).abs() ** 2
        feats = torch.log(self.bank @ spec + 1e-4)
        feats = (feats - feats.mean((1, 2), keepdim=True)) / feats.std((1, 2), keepdim=True)
        return feats[:, None], y


class SeparableBlock(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width)
        self.pointwise = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


class DSCNN(nn.Module):
    def __init__(self, words, width, blocks):
        super().__init__()
        self.stem = nn.Conv2d(1, width, (5, 5), stride=2, padding=2)
        self.blocks = nn.Sequential(*[SeparableBlock(width, 2 if i == 1 else 1) for i in range(blocks)])
        self.classifier = nn.Linear(width, words)
        self.apply(self.reset)

    @staticmethod
    def reset(m):
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
            nn.init.normal_(m.weight, 0.0, math.sqrt(2.0 / fan_out))
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        x = self.blocks(F.relu(self.stem(x)))
        return self.classifier(x.mean((2, 3)))


corpus = SyntheticWords(args.words)
model = DSCNN(args.words, args.width, args.blocks)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=1e-4)

running = None
for step in range(args.steps):
    x, y = corpus.batch(args.batch_size)
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    running = loss.item() if running is None else 0.9 * running + 0.1 * loss.item()
    if (step + 1) % 20 == 0:
        acc = (logits.argmax(1) == y).float().mean().item()
        print(f"[{step + 1:3d}] loss {running:.4f} acc {acc:.2f}")

print(f"final_loss={running}")
