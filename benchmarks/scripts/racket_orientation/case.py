"""Racket orientation from a wrist-worn inertial sensor: window of accelerations and rates -> unit quaternion."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def quat_multiply(a, b):
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def rotate_inverse(q, v):
    pure = torch.cat([torch.zeros_like(v[..., :1]), v], -1)
    conj = q * torch.tensor([1.0, -1, -1, -1])
    return quat_multiply(quat_multiply(conj, pure), q)[..., 1:]


class Swings(Dataset):
    """Poses reached in rallies; the sensor sees gravity and magnetic north in the racket frame over a short window."""

    def __init__(self, n, seed, window=8):
        gen = torch.Generator().manual_seed(seed)
        axis = nn.functional.normalize(torch.randn(n, 3, generator=gen), dim=1)
        angle = 1.2 * torch.rand(n, 1, generator=gen)
        self.pose = torch.cat([torch.cos(angle / 2), axis * torch.sin(angle / 2)], 1)
        down = torch.tensor([0.0, 0.0, -1.0]).expand(n, 3)
        north = torch.tensor([0.9, 0.0, -0.43]).expand(n, 3)
        seen = torch.cat([rotate_inverse(self.pose, down), rotate_inverse(self.pose, north)], 1)
        noise = 0.01 * torch.randn(n, window, 6, generator=gen)
        self.signal = seen[:, None] + noise

    def __len__(self):
        return len(self.pose)

    def __getitem__(self, i):
        return self.signal[i], self.pose[i]


class PoseNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(6, hidden, 3, padding=1), nn.SiLU(), nn.Conv1d(hidden, hidden, 3, padding=1))
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 4))

    def forward(self, signal):
        features = self.conv(signal.transpose(1, 2)).mean(2)
        return nn.functional.normalize(self.mlp(features), dim=-1)


def geodesic(estimate, pose):
    """Angle of the rotation between the two, in radians."""
    dot = (estimate * pose).sum(-1).abs().clamp(max=1.0)
    return 2 * torch.acos(dot)


def main():
    torch.manual_seed(3)
    np.random.seed(3)
    loader = DataLoader(Swings(4096, seed=3), batch_size=128, shuffle=True)
    net = PoseNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=14)
    for epoch in range(14):
        angles = []
        for signal, pose in loader:
            loss = geodesic(net(signal), pose).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            angles.append(loss.item())
        schedule.step()
        print(f"epoch {epoch:2d}: mean error {np.degrees(np.mean(angles)):.2f} deg")
    print(f"final_loss={np.mean(angles)}")


if __name__ == "__main__":
    main()
