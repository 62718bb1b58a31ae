"""Variational autoencoder on handwritten digits. The batch doubles every few epochs instead of a
falling learning rate."""
import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Encoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.mu = nn.Linear(24 * 16, latent)
        self.log_var = nn.Linear(24 * 16, latent)

    def forward(self, x):
        h = F.elu(self.conv2(F.elu(self.conv1(x)))).flatten(1)
        return self.mu(h), self.log_var(h)


class Decoder(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.lift = nn.Linear(latent, 24 * 16)
        self.up = nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1)
        self.out = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z):
        h = F.elu(self.lift(z)).view(-1, 24, 4, 4)
        return self.out(F.elu(self.up(h)))


def elbo_terms(encoder, decoder, x):
    mu, log_var = encoder(x)
    z = mu + torch.exp(0.5 * log_var) * torch.randn_like(mu)
    reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
    return reconstruction, kl


def batches(data, size):
    order = torch.randperm(len(data))
    for rows in order.split(size):
        yield data[rows]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--lr", type=float, default=7e-5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--double-every", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
    images = images[torch.randperm(len(images))]
    train, test = images[:1536], images[1536:]

    encoder, decoder = Encoder(args.latent), Decoder(args.latent)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.SGD(weights, lr=args.lr, momentum=0.9, nesterov=True)

    for epoch in range(args.epochs):
        size = args.batch * 2 ** (epoch // args.double_every)
        total = 0.0
        for x in batches(train, size):
            reconstruction, kl = elbo_terms(encoder, decoder, x)
            loss = reconstruction + kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        with torch.no_grad():
            held_out = sum(elbo_terms(encoder, decoder, test)).item() / len(test)
        print(f"epoch {epoch} batch {size:4d} per image: train {total / len(train):9.3f} held out {held_out:9.3f}")
    print(f"final_loss={total / len(train)}")


if __name__ == "__main__":
    main()
