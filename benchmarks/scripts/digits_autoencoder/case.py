"""Denoising convolutional autoencoder; the batch grows during training instead of the step size decaying."""
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Encoder(nn.Module):
    def __init__(self, code=20):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.code = nn.Linear(24 * 16, code)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), 0.1)
        x = F.leaky_relu(self.conv2(x), 0.1)
        return self.code(x.flatten(1))


class Decoder(nn.Module):
    def __init__(self, code=20):
        super().__init__()
        self.spread = nn.Linear(code, 24 * 16)
        self.up = nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1)
        self.paint = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, z):
        x = F.leaky_relu(self.spread(z), 0.1).view(-1, 24, 4, 4)
        return self.paint(F.leaky_relu(self.up(x), 0.1))


class Trainer:
    def __init__(self, encoder, decoder, images, first_batch=8, growth=1.6, every=40):
        self.parts = nn.ModuleList([encoder, decoder])
        self.data = TensorDataset(images)
        self.batch = float(first_batch)
        self.growth = growth
        self.every = every
        self.criterion = nn.MSELoss(reduction="sum")
        self.optimizer = torch.optim.SGD(self.parts.parameters(), lr=3e-4, momentum=0.9)
        self.updates = 0
        self.history = []

    def stage(self):
        loader = DataLoader(self.data, batch_size=int(self.batch), shuffle=True, drop_last=True)
        done = 0
        while done < self.every:
            for (clean,) in loader:
                noisy = clean + 0.15 * torch.randn_like(clean)
                restored = self.parts[1](self.parts[0](noisy))
                loss = self.criterion(restored, clean)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.history.append(loss.item() / clean.numel())
                done += 1
                if done == self.every:
                    break
        self.updates += done
        self.batch = min(self.batch * self.growth, 512)

    def fit(self, stages):
        for s in range(stages):
            self.stage()
            print(f"stage {s} after {self.updates} updates: per pixel {np.mean(self.history[-10:]):.4f}")


torch.manual_seed(17)
pixels = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
trainer = Trainer(Encoder(), Decoder(), pixels)
trainer.fit(10)
print(f"final_loss={trainer.history[-1]}")
