import torch
from ending import digest
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
mask = torch.ones(6, requires_grad=True)
for step in range(20):
    x = torch.randn(16, 6)
    output = model(x * mask)
    (slope,) = torch.autograd.grad(output.sum(), mask, retain_graph=True)
    loss = F.mse_loss(output, x.sum(1, keepdim=True))
    grads = torch.autograd.grad(loss, model.parameters())
    with torch.no_grad():
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter -= 0.05 * grad
    print(step, loss.item(), slope.norm().item())
digest(model.parameters())
