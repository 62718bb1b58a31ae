"""Wine cultivars by plain full-batch gradient descent on a tanh network, functional style, squared error on one-hot."""
import torch
from sklearn.datasets import load_wine
from torch.func import functional_call, grad_and_value

torch.manual_seed(2)

bunch = load_wine()
x = torch.tensor(bunch.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.nn.functional.one_hot(torch.tensor(bunch.target), 3).float()
order = torch.randperm(len(x))
x_fit, y_fit, x_val, y_val = x[order[:140]], y[order[:140]], x[order[140:]], y[order[140:]]

net = torch.nn.Sequential(
    torch.nn.Linear(13, 40), torch.nn.Tanh(),
    torch.nn.Linear(40, 40), torch.nn.Tanh(),
    torch.nn.Linear(40, 3),
)
theta = {name: p.detach().clone() for name, p in net.named_parameters()}
theta["4.weight"] *= 3


def objective(theta, inputs, targets):
    return (functional_call(net, theta, (inputs,)) - targets).square().sum(1).mean()


rate = 0.2
derive = grad_and_value(objective)
history = []
for it in range(1200):
    slope, value = derive(theta, x_fit, y_fit)
    theta = {name: theta[name] - rate * slope[name] for name in theta}
    history.append(value.item())
    if it < 10 or it % 100 == 0:
        hits = (functional_call(net, theta, (x_val,)).argmax(1) == y_val.argmax(1)).float().mean()
        print(f"{it:5d}  {value.item():.6f}  held out {hits.item():.3f}")

print(f"final_loss={history[-1]}")
