import torch
from ending import digest
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.GELU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10):
    optimizer.zero_grad()
    for _ in range(4):
        loss = F.cross_entropy(model(torch.randn(8, 8)), torch.randint(0, 4, (8,))) / 4
        loss.backward()
    optimizer.step()
    print(step, loss.item())
digest(model.parameters())
