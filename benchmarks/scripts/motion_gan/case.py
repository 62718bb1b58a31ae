"""WGAN-GP on three-frame clips of a drifting bar; quality is judged by a sliced Wasserstein distance."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(14)

SIDE, FRAMES, Z = 12, 3, 12
N_CRITIC, GP_WEIGHT, ROUNDS = 4, 10.0, 90


def real_clips(n):
    """A soft bar that drifts left or right at constant speed; values in [-1, 1]."""
    x = torch.arange(SIDE).float()
    start = 3 + 6 * torch.rand(n, 1, 1)
    speed = torch.where(torch.rand(n, 1, 1) < 0.5, -1.5, 1.5)
    width = 0.8 + 0.6 * torch.rand(n, 1, 1)
    centre = start + speed * torch.arange(FRAMES).view(1, -1, 1)
    profile = torch.exp(-((x - centre) / width) ** 2)
    brightness = 0.6 + 0.4 * torch.rand(n, 1, 1)
    clips = (2 * brightness * profile - 1).unsqueeze(2).expand(n, FRAMES, SIDE, SIDE)
    return clips + 0.02 * torch.randn(n, FRAMES, SIDE, SIDE)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(Z, 32 * 3 * 3)
        self.up1 = nn.ConvTranspose2d(32, 24, 4, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(24)
        self.up2 = nn.ConvTranspose2d(24, FRAMES, 4, stride=2, padding=1)

    def forward(self, z):
        h = F.relu(self.fc(z)).view(-1, 32, 3, 3)
        h = F.relu(self.bn(self.up1(h)))
        return torch.tanh(self.up2(h))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(FRAMES, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(32, 48, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(48 * 9, 1),
        )

    def forward(self, clip):
        return self.body(clip).squeeze(1)


def gradient_penalty(critic, real, fake):
    mix = torch.rand(len(real), 1, 1, 1)
    points = (mix * real + (1 - mix) * fake).requires_grad_(True)
    grads, = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return ((grads.flatten(1).pow(2).sum(1) + 1e-12).sqrt() - 1).pow(2).mean()


def sliced_wasserstein(a, b, n_proj=200):
    d = F.normalize(torch.randn(a[0].numel(), n_proj, generator=torch.Generator().manual_seed(0)), dim=0)
    pa, pb = (a.flatten(1) @ d).sort(0).values, (b.flatten(1) @ d).sort(0).values
    return (pa - pb).abs().mean().item()


G, D = Generator(), Critic()
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.9))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.9))
reference, fixed_z = real_clips(512), torch.randn(512, Z)


@torch.no_grad()
def quality():
    return sliced_wasserstein(G(fixed_z), reference)


print(f"start: distance {quality():.4f}")
for r in range(ROUNDS):
    for _ in range(N_CRITIC):
        real = real_clips(32)
        fake = G(torch.randn(32, Z)).detach()
        wasserstein = D(real).mean() - D(fake).mean()
        d_loss = -wasserstein + GP_WEIGHT * gradient_penalty(D, real, fake)
        opt_d.zero_grad()
        d_loss.backward()
        opt_d.step()

    g_loss = -D(G(torch.randn(32, Z))).mean()
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    if r % 10 == 0:
        print(f"{r:4d} d_loss {d_loss.item():8.3f} g_loss {g_loss.item():8.3f} W {wasserstein.item():.3f} dist {quality():.4f}")

print(f"final_loss={quality()}")
