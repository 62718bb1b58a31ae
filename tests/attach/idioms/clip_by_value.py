import torch
from ending import digest
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Linear(8, 4)
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
for step in range(20):
    loss = F.cross_entropy(model(torch.randn(32, 8) * 9), torch.randint(0, 4, (32,)))
    optimizer.zero_grad()
    loss.backward()
    total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
    nn.utils.clip_grad_value_(model.parameters(), 0.1)
    nn.utils.clip_grads_with_norm_(model.parameters(), 0.2, total)
    optimizer.step()
    print(step, loss.item(), total.item())
digest(model.parameters())
