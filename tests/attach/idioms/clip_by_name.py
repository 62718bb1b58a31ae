import torch
from ending import digest
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
for step in range(30):
    loss = F.cross_entropy(model(torch.randn(32, 8)), torch.randint(0, 4, (32,)))
    optimizer.zero_grad(set_to_none=step % 2 == 0)
    loss.backward()
    norm = clip_grad_norm_(model.parameters(), 0.3 if step < 20 else 1e6)
    optimizer.step()
    schedule.step()
    print(step, loss.item(), norm.item(), schedule.get_last_lr())
digest([*model.parameters(), *model.buffers()])
