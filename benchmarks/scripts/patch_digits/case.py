"""Patch transformer on the 8x8 digits: 16 patches of 2x2 pixels, two encoder layers, mean pooling."""
import argparse
import math

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=0.2)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--batch-size", type=int, default=96)
    p.add_argument("--dim", type=int, default=48)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--layers", type=int, default=2)
    p.add_argument("--seed", type=int, default=1234)
    return p.parse_args()


class PatchEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.pos = nn.Parameter(torch.randn(1, 16, dim) * 0.02)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2) + self.pos


class DigitTransformer(nn.Module):
    def __init__(self, dim, heads, layers, classes=10):
        super().__init__()
        self.embed = PatchEmbed(dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 3 * dim, dropout=0.0, activation="gelu",
                                           batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, images):
        tokens = self.encoder(self.embed(images))
        return self.head(self.norm(tokens.mean(1)))


class Trainer:
    def __init__(self, args, model, train, valid):
        self.args, self.model = args, model
        self.train_loader = DataLoader(train, args.batch_size, shuffle=True, drop_last=True)
        self.valid_loader = DataLoader(valid, 256)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
        self.criterion = nn.CrossEntropyLoss()

    def fit(self):
        valid_loss = math.nan
        for epoch in range(self.args.epochs):
            train_loss = self.run_epoch()
            valid_loss, accuracy = self.validate()
            print(f"epoch {epoch:2d}  train {train_loss:.4f}  valid {valid_loss:.4f}  acc {accuracy:.3f}")
        return valid_loss

    def run_epoch(self):
        self.model.train()
        total = 0.0
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        loss = hits = count = 0
        for images, labels in self.valid_loader:
            logits = self.model(images)
            loss += self.criterion(logits, labels).item() * len(labels)
            hits += (logits.argmax(1) == labels).sum().item()
            count += len(labels)
        return loss / count, hits / count


def main():
    args = parse()
    torch.manual_seed(args.seed)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.tensor(digits.target)
    a, b = train_test_split(torch.arange(len(labels)).numpy(), test_size=0.2, random_state=0)
    train, valid = (TensorDataset(images[i], labels[i]) for i in (a, b))
    model = DigitTransformer(args.dim, args.heads, args.layers)
    loss = Trainer(args, model, train, valid).fit()
    print(f"final_loss={loss}")


if __name__ == "__main__":
    main()
