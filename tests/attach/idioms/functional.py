import torch
from ending import digest
from torch.nn import functional as F


def forward(params, x):
    for weight, bias in zip(params[0:-2:2], params[1:-2:2], strict=True):
        x = F.relu(x @ weight + bias)
    return x @ params[-2] + params[-1]


def main():
    torch.manual_seed(0)
    sizes = [8, 16, 16, 4]
    params = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        weight = torch.randn(inputs, outputs) / inputs**0.5
        params += [weight.requires_grad_(), torch.zeros(outputs, requires_grad=True)]
    optimizer = torch.optim.Adagrad(params, lr=0.05)
    for step in range(20):
        loss = F.cross_entropy(forward(params, torch.randn(32, 8)), torch.randint(0, 4, (32,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(step, loss.item())
    digest(params)


if __name__ == "__main__":
    main()
