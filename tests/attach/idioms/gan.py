import torch
from ending import digest
from torch import nn
from torch.nn import functional as F


def mlp(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.LeakyReLU(0.2), nn.Linear(16, outputs))


torch.manual_seed(0)
generator, critic = mlp(4, 2), mlp(2, 1)
for_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
for_critic = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(15):
    fake = generator(torch.randn(32, 4))
    loss = F.softplus(-critic(torch.randn(32, 2))).mean() + F.softplus(critic(fake.detach())).mean()
    for_critic.zero_grad()
    loss.backward()
    for_critic.step()
    deceived = F.softplus(-critic(fake)).mean()
    for_generator.zero_grad()
    deceived.backward()
    for_generator.step()
    print(step, loss.item(), deceived.item())
digest([*generator.parameters(), *critic.parameters()])
