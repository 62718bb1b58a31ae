import torch
from ending import digest
from torch import nn
from torch._dynamo.utils import counters

for backend in ("eager", "aot_eager"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 4))
    fast = torch.compile(model, backend=backend)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(12):
        loss = fast(torch.randn(16, 8)).log_softmax(1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item().hex())
    digest(model.parameters())
# Graphs, breaks and compilations: the same whether watched or not.
print({kind: dict(counts) for kind, counts in counters.items()})
