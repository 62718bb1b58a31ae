import torch
from ending import digest
from torch import nn
from torch.func import functional_call, grad, grad_and_value, hessian, vmap

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
weights = {name: parameter.detach() for name, parameter in model.named_parameters()}


def loss_of(weights, x):
    return functional_call(model, weights, x).sub(x.sum(-1, keepdim=True)).pow(2).mean()


def adapted(weights, x):
    slopes = grad(loss_of)(weights, x)
    return loss_of({name: w - 0.1 * slopes[name] for name, w in weights.items()}, x)


for step in range(20):
    x = torch.randn(16, 3)
    each = vmap(grad(loss_of), (None, 0))(weights, x)
    curvature = hessian(loss_of)(weights, x)["2.bias"]["2.bias"]
    slopes, loss = grad_and_value(adapted)(weights, x)
    weights = {name: weight - 0.05 * slopes[name] for name, weight in weights.items()}
    print(step, loss.item(), each["2.bias"].norm().item(), curvature.item())
digest(weights.values())
