import torch
from ending import digest
from torch import nn

torch.manual_seed(0)
table, head = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 1)
sparse = torch.optim.SparseAdam(table.parameters(), lr=0.01)
dense = torch.optim.SGD(head.parameters(), lr=0.01)
for step in range(10):
    loss = head(table(torch.randint(0, 50, (16,)))).pow(2).mean()
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    sparse.step()
    dense.step()
    print(step, loss.item())
digest([*table.parameters(), *head.parameters()])
