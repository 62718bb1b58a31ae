import torch
from ending import digest
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))
optimizer = torch.optim.NAdam(model.parameters(), lr=0.01)
for step in range(10):
    x = torch.randn(8, 6, requires_grad=True)
    out = checkpoint(model, x, use_reentrant=step % 2 == 0)
    optimizer.zero_grad()
    out[:, 0].pow(2).mean().backward(retain_graph=step % 2 == 1)
    if step % 2 == 1:
        out[:, 1].abs().mean().backward()
    optimizer.step()
    print(step, x.grad.norm().item())
digest(model.parameters())
