import torch
from ending import digest
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1))
weights = list(model.parameters())
optimizer = torch.optim.Adam(weights, lr=0.01)
for step in range(20):
    x = torch.randn(16, 6, requires_grad=True)
    (push,) = torch.autograd.grad(model(x).sum(), x)  # an input: not the training's gradient
    loss = (model(x + 0.1 * push.sign()) - x.sum(1, keepdim=True)).pow(2).mean()
    for weight, grad in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = grad
    optimizer.step()
    print(step, loss.item())
digest(model.parameters())
