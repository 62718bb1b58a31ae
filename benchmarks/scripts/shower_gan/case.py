"""Fast calorimeter simulation: a conditional GAN produces the energy deposited in 20 layers (MeV) by an incoming particle."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

torch.manual_seed(14)
LAYERS, NOISE = 20, 8


def full_simulation(n):
    """Gamma-shaped longitudinal profiles, shower maximum moving deeper with log energy; energies 5 to 200 GeV."""
    energy = 5e3 * 40 ** torch.rand(n, 1)
    depth = torch.arange(1, LAYERS + 1) - 0.5
    a = 2.0 + 0.5 * torch.log(energy / 1e3) + 0.3 * torch.randn(n, 1)
    b = 0.5 * torch.exp(0.1 * torch.randn(n, 1))
    profile = torch.exp(a.clamp(min=0.5) * torch.log(depth) - b * depth)
    profile = profile / profile.sum(dim=1, keepdim=True)
    sampling = 1.0 + 0.1 * torch.randn(n, LAYERS)
    deposits = energy * 0.9 * profile * sampling.clamp(min=0)
    return torch.where(deposits > 5.0, deposits, torch.zeros(())), energy


class Generator(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(NOISE + 1, width), nn.LeakyReLU(0.2),
                                 nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, LAYERS))

    def forward(self, energy):
        z = torch.randn(len(energy), NOISE)
        logits = self.net(torch.cat([z, torch.log(energy / 3e4)], dim=1))
        return energy * F.softplus(logits) / LAYERS


class Critic(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.net = nn.Sequential(spectral_norm(nn.Linear(LAYERS + 2, width)), nn.LeakyReLU(0.2),
                                 spectral_norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
                                 spectral_norm(nn.Linear(width, 1)))

    def forward(self, deposits, energy):
        features = [10 * deposits / energy, 2 * deposits.sum(dim=1, keepdim=True) / energy, torch.log(energy / 3e4)]
        return self.net(torch.cat(features, dim=1)).squeeze(1)


@torch.no_grad()
def profile_error(generator, n=4000):
    """Mean quantile distance per layer between simulated and generated deposits, in MeV."""
    real, energy = full_simulation(n)
    fake = generator(energy)
    return (real.sort(dim=0).values - fake.sort(dim=0).values).abs().mean().item()


generator, critic = Generator(), Critic()
opt_g = torch.optim.Adam(generator.parameters(), lr=4e-4, betas=(0.0, 0.9))
opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
print(f"untrained: {profile_error(generator):.1f} MeV")

for step in range(550):
    for _ in range(2):
        real, energy = full_simulation(128)
        fake = generator(energy).detach()
        loss_c = F.relu(1 - critic(real, energy)).mean() + F.relu(1 + critic(fake, energy)).mean()
        opt_c.zero_grad()
        loss_c.backward()
        opt_c.step()

    _, energy = full_simulation(128)
    loss_g = -critic(generator(energy), energy).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if step % 50 == 0:
        print(f"step {step:4d}  critic {loss_c.item():7.3f}  generator {loss_g.item():7.3f}  "
              f"error {profile_error(generator):7.1f} MeV")

print(f"final_loss={profile_error(generator)}")
