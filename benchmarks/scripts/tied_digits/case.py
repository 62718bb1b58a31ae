"""Which of ten handwritten digits: a tied autoencoder classifier written with parameters in a dict."""
import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(23)


def make_params():
    def matrix(fan_in, fan_out):
        return (torch.randn(fan_in, fan_out) / math.sqrt(fan_in)).requires_grad_()

    return {
        "code.w": matrix(64, 40),
        "code.b": torch.zeros(40, requires_grad=True),
        "back.b": torch.zeros(64, requires_grad=True),
        "mid.w": matrix(40, 40),
        "mid.b": torch.zeros(40, requires_grad=True),
        "out.w": matrix(40, 10),
        "out.b": torch.zeros(10, requires_grad=True),
    }


def forward(p, x):
    code = torch.tanh(x @ p["code.w"] + p["code.b"])
    rebuilt = code @ p["code.w"].t() + p["back.b"]
    hidden = F.silu(code @ p["mid.w"] + p["mid.b"])
    return rebuilt, hidden @ p["out.w"] + p["out.b"]


def objective(p, x, y):
    rebuilt, logits = forward(p, x)
    return F.cross_entropy(logits, y) + 0.3 * F.mse_loss(rebuilt, x)


def make_stepper(params, optimizer, pieces):
    bank = {name: torch.zeros_like(p) for name, p in params.items()}
    names, tensors = list(params), list(params.values())

    def step(x, y):
        total = 0.0
        for part_x, part_y in zip(x.chunk(pieces), y.chunk(pieces)):
            loss = objective(params, part_x, part_y) / pieces
            for name, grad in zip(names, torch.autograd.grad(loss, tensors)):
                bank[name].add_(grad)
            total += loss.item()
        for name, p in params.items():
            p.grad = bank[name]
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


@torch.no_grad()
def accuracy(p, x, y):
    return (forward(p, x)[1].argmax(1) == y).float().mean().item()


def main():
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).sub(8).div(6)
    y = torch.tensor(labels)
    order = torch.randperm(len(x))
    train, held = order[:1500], order[1500:]
    params = make_params()
    optimizer = torch.optim.SGD(params.values(), lr=0.05, momentum=0.5)
    step = make_stepper(params, optimizer, pieces=4)
    for epoch in range(24):
        losses = [step(x[rows], y[rows]) for rows in train[torch.randperm(len(train))].split(100)]
        if epoch % 3 == 0:
            print(f"{epoch:3d} loss {sum(losses) / len(losses):.4f} held-out accuracy {accuracy(params, x[held], y[held]):.3f}")
    print(f"final_loss={sum(losses) / len(losses)}")


main()
