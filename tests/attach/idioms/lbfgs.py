import torch
from ending import digest
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 3)
y = x @ torch.randn(3, 1)
model = nn.Linear(3, 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)


def closure():
    optimizer.zero_grad()
    loss = (model(x) - y).pow(2).mean()
    loss.backward()
    return loss


for step in range(10):
    print(step, optimizer.step(closure).item())
digest(model.parameters())
