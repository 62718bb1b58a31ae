import torch
from ending import digest

torch.manual_seed(0)
weights = {
    "in": torch.randn(5, 8, requires_grad=True),
    "out": torch.randn(8, 1, requires_grad=True),
}
bias = torch.zeros(1, requires_grad=True)
for step in range(20):
    x = torch.randn(16, 5)
    loss = (
        (torch.tanh(x @ weights["in"]) @ weights["out"] + bias - x.sum(1, keepdim=True))
        .pow(2)
        .mean()
    )
    loss.backward()
    with torch.no_grad():
        for weight in weights.values():
            weight -= 0.01 * weight.grad
            weight.grad = None
    bias = (bias - 0.01 * bias.grad).detach().requires_grad_()
    print(step, loss.item())
digest([*weights.values(), bias])
