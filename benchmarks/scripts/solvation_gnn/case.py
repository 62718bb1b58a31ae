"""Solvation free energy of small molecules from heavy-atom graphs (toy FreeSolv)."""
import torch
import torch.nn as nn

torch.manual_seed(21)
ELEMENTS = ["C", "N", "O", "F", "S", "Cl"]
CONTRIB = torch.tensor([0.4, -2.2, -2.6, 0.3, -0.6, -0.3])


def random_molecule():
    """Tree-shaped heavy-atom skeleton; now and then a single heavy atom (CH4, NH3, H2O)."""
    n = 1 if torch.rand(()) < 0.004 else int(torch.randint(3, 13, ()))
    elements = torch.multinomial(torch.tensor([6.0, 1.2, 1.4, 0.4, 0.3, 0.4]), n, replacement=True)
    child = torch.arange(1, n)
    parent = (torch.rand(n - 1) * child).long()
    edges = torch.stack([torch.cat([child, parent]), torch.cat([parent, child])])
    degree = torch.bincount(edges[0], minlength=n)
    energy = (CONTRIB[elements] * (1.3 - 0.25 * degree)).sum() + 0.1 * torch.randn(())
    return elements, edges, degree, energy


def collate(mols):
    elements = torch.cat([m[0] for m in mols])
    sizes = torch.tensor([len(m[0]) for m in mols])
    offset = torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)[:-1]])
    edges = torch.cat([m[1] + o for m, o in zip(mols, offset)], dim=1)
    degree = torch.cat([m[2] for m in mols])
    graph = torch.repeat_interleave(torch.arange(len(mols)), sizes)
    return elements, edges, degree, graph, torch.stack([m[3] for m in mols])


class PerGraphNorm(nn.Module):
    """Standardises every channel over the atoms of each molecule, with learned mean scale as in GraphNorm."""

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim) * 0.5)
        self.gamma = nn.Parameter(torch.ones(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, h, graph, n_graphs):
        count = torch.bincount(graph, minlength=n_graphs).unsqueeze(1).to(h.dtype)
        zeros = h.new_zeros(n_graphs, h.size(1))
        mean = zeros.index_add(0, graph, h) / count
        centred = h - self.alpha * mean[graph]
        sq = zeros.index_add(0, graph, (h - mean[graph]) ** 2)
        var = sq / count
        return self.gamma * centred / torch.sqrt(var + self.eps)[graph] + self.beta


class GINLayer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.norm = PerGraphNorm(dim)

    def forward(self, h, edges, graph, n_graphs):
        agg = torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])
        return h + torch.relu(self.norm(self.mlp(h + agg), graph, n_graphs))


class SolvationNet(nn.Module):
    def __init__(self, dim=48, depth=3):
        super().__init__()
        self.atom = nn.Embedding(len(ELEMENTS), dim)
        self.degree = nn.Embedding(16, dim)
        self.layers = nn.ModuleList(GINLayer(dim) for _ in range(depth))
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, elements, edges, degree, graph, n_graphs):
        h = self.atom(elements) + self.degree(degree)
        for layer in self.layers:
            h = layer(h, edges, graph, n_graphs)
        per_atom = self.readout(h).squeeze(1)
        return torch.zeros(n_graphs).index_add(0, graph, per_atom)


dataset = [random_molecule() for _ in range(1200)]
held_out = collate([random_molecule() for _ in range(300)])
net = SolvationNet()
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)

for epoch in range(6):
    order, total = torch.randperm(len(dataset)).tolist(), 0.0
    for i in range(0, len(order), 24):
        *inputs, energy = collate([dataset[j] for j in order[i:i + 24]])
        loss = nn.functional.smooth_l1_loss(net(*inputs, len(energy)), energy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(energy)
    print(f"epoch {epoch}: train huber {total / len(dataset):.4f}")

with torch.no_grad():
    *inputs, energy = held_out
    test = nn.functional.smooth_l1_loss(net(*inputs, len(energy)), energy)
print(f"final_loss={test.item()}")
