"""World model for a driven pendulum: encode the first frames, roll a latent state forward under the
actions, decode every state."""
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

LATENT, HORIZON, BATCH = 24, 30, 32


class Pendulum:
    """Batch of torque-driven pendulums seen as (cos, sin, speed)."""

    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def rollout(self, n, steps):
        angle = (torch.rand(n, generator=self.g) * 2 - 1) * math.pi
        speed = torch.randn(n, generator=self.g)
        torque = torch.randn(n, steps, generator=self.g).cumsum(1).sin()
        frames = []
        for t in range(steps):
            speed = speed + 0.1 * (2 * torque[:, t] - 2.5 * angle.sin() - 0.1 * speed)
            angle = angle + 0.1 * speed
            frames.append(torch.stack([angle.cos(), angle.sin(), speed / 2], 1))
        return torch.stack(frames, 1), torque.unsqueeze(2)


class Dynamics(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(LATENT + 1, 48)
        self.outer = nn.Linear(48, LATENT)

    def forward(self, state, action):
        return state + self.outer(F.silu(self.inner(torch.cat([state, action], 1))))


class Trainer:
    max_norm = 0.2

    def __init__(self):
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 48), nn.SiLU(), nn.Linear(48, LATENT))
        self.dynamics = Dynamics()
        self.decoder = nn.Sequential(nn.Linear(LATENT, 48), nn.SiLU(), nn.Linear(48, 3))
        self.params = itertools.chain(
            self.encoder.parameters(), self.dynamics.parameters(), self.decoder.parameters()
        )
        self.optimizer = torch.optim.SGD(self.params, lr=0.15, momentum=0.9)
        self.world = Pendulum(seed=5)

    def imagine(self, frames, actions):
        state = self.encoder(frames[:, :2])
        seen = []
        for t in range(2, frames.shape[1]):
            state = self.dynamics(state, actions[:, t])
            seen.append(self.decoder(state))
        return torch.stack(seen, 1)

    def horizon(self, step):
        return min(HORIZON, 6 + step // 8)

    def update(self, step):
        frames, actions = self.world.rollout(BATCH, self.horizon(step))
        loss = F.mse_loss(self.imagine(frames, actions), frames[:, 2:])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.params, self.max_norm)
        self.optimizer.step()
        return loss.item()

    def fit(self, steps):
        losses = []
        for step in range(steps):
            losses.append(self.update(step))
            if step % 25 == 0:
                print(f"step {step:3d} horizon {self.horizon(step):2d} loss {losses[-1]:.4f}")
        return sum(losses[-10:]) / 10


if __name__ == "__main__":
    torch.manual_seed(5)
    print(f"final_loss={Trainer().fit(400)}")
