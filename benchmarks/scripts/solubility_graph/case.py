"""Solubility of small molecules from their graphs: gated message passing, SGD, plateau schedule."""
import torch
import torch.nn as nn

torch.manual_seed(42)

ELEMENTS = {"C": (4, 0.0), "N": (3, -0.7), "O": (2, -1.1), "F": (1, 0.25), "S": (2, 0.1), "Cl": (1, 0.7)}
SYMBOLS = list(ELEMENTS)
FREQ = torch.tensor([0.58, 0.12, 0.14, 0.05, 0.06, 0.05])
MAX_ATOMS = 18


def molecule():
    """Random tree that respects valence, with a ring closure where two open carbons are left."""
    n = int(torch.randint(7, MAX_ATOMS + 1, ()))
    kinds = [0]
    free = [4]
    adj = torch.zeros(MAX_ATOMS, MAX_ATOMS)
    for i in range(1, n):
        host = [j for j in range(i) if free[j] > 0]
        kind = int(torch.multinomial(FREQ, 1)) if len(host) > 1 else 0
        j = host[int(torch.randint(len(host), ()))]
        adj[i, j] = adj[j, i] = 1
        free[j] -= 1
        kinds.append(kind)
        free.append(ELEMENTS[SYMBOLS[kind]][0] - 1)
    carbons = [i for i in range(n) if kinds[i] == 0 and free[i] > 0]
    if len(carbons) > 3 and adj[carbons[0], carbons[-1]] == 0:
        adj[carbons[0], carbons[-1]] = adj[carbons[-1], carbons[0]] = 1
    x = torch.zeros(MAX_ATOMS, len(SYMBOLS))
    x[torch.arange(n), kinds] = 1
    contribution = torch.tensor([ELEMENTS[SYMBOLS[k]][1] for k in kinds])
    polar = ((x[:n, 1] + x[:n, 2]) > 0).float()
    shielding = adj[:n, :n] @ polar
    log_s = 0.5 - 0.16 * n - (contribution * (1 - 0.35 * shielding)).sum() + 0.1 * torch.randn(())
    return x, adj, log_s


def library(n):
    x, adj, y = zip(*(molecule() for _ in range(n)))
    return torch.stack(x), torch.stack(adj), torch.stack(y)


class MessagePassing(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.message = nn.Linear(dim, dim)
        self.update = nn.GRUCell(dim, dim)

    def forward(self, h, adj):
        m = adj @ torch.relu(self.message(h))
        return self.update(m.flatten(0, 1), h.flatten(0, 1)).view_as(h)


class SolubilityNet(nn.Module):
    def __init__(self, dim=32, rounds=3):
        super().__init__()
        self.atom = nn.Linear(len(SYMBOLS), dim)
        self.rounds = nn.ModuleList(MessagePassing(dim) for _ in range(rounds))
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, x, adj):
        present = x.sum(-1, keepdim=True)
        h = self.atom(x)
        for layer in self.rounds:
            h = layer(h, adj)
        return (self.readout(h) * present).sum((1, 2)) / MAX_ATOMS**0.5


class Trainer:
    def __init__(self, model, train, valid, batch_size=32):
        self.model, self.train_set, self.valid_set, self.batch_size = model, train, valid, batch_size
        self.optimizer = torch.optim.SGD(model.parameters(), lr=2e-2, momentum=0.9, nesterov=True)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, mode="max", factor=0.5, patience=2, min_lr=1e-6
        )
        self.criterion = nn.SmoothL1Loss()

    def epoch(self):
        self.model.train()
        order = torch.randperm(len(self.train_set[0]))
        for rows in order.split(self.batch_size):
            x, adj, y = (t[rows] for t in self.train_set)
            loss = self.criterion(self.model(x, adj), y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        x, adj, y = self.valid_set
        return self.criterion(self.model(x, adj), y).item()

    def fit(self, epochs):
        for epoch in range(1, epochs + 1):
            self.epoch()
            valid = self.evaluate()
            self.scheduler.step(valid)
            if epoch % 4 == 0:
                print(f"epoch {epoch:3d} valid {valid:.5f}")
        return valid


trainer = Trainer(SolubilityNet(), library(384), library(128))
print(f"final_loss={trainer.fit(36)}")
