import torch
from torch import nn


def lose(model):
    loss = model(torch.randn(2, 3)).sum()
    loss.backward()
    loss.backward()


torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
try:
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
finally:
    lose(model)
