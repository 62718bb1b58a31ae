# Football fixtures: goals, possession, distance run and result from one network,
# tasks weighed by learned log-variances (homoscedastic uncertainty).
import math

import torch
from torch import nn

torch.manual_seed(9)
TEAMS, FIXTURES = 40, 6000

# ---- fixtures -------------------------------------------------------------
attack, defence, style, stamina = 0.35 * torch.randn(4, TEAMS)
home = torch.randint(TEAMS, (FIXTURES,))
away = (home + torch.randint(1, TEAMS, (FIXTURES,))) % TEAMS
heat = 12 + 9 * torch.randn(FIXTURES)
rate_home = torch.exp(0.35 + attack[home] - defence[away])
rate_away = torch.exp(0.05 + attack[away] - defence[home])
goals = torch.stack([torch.poisson(rate_home), torch.poisson(rate_away)], 1)
possession = torch.sigmoid(1.6 * (style[home] - style[away]) + 0.05 * torch.randn(FIXTURES))
metres = 108_000 + 6_000 * (stamina[home] + stamina[away]) - 180 * (heat - 12) + 150 * torch.randn(FIXTURES)
tempo = torch.tanh(style[home] + style[away]) + 0.02 * torch.randn(FIXTURES)
result = 1 + torch.sign(goals[:, 0] - goals[:, 1]).long()


# ---- network --------------------------------------------------------------
class FixtureNet(nn.Module):
    def __init__(self, dim=16, hidden=96):
        super().__init__()
        self.team = nn.Embedding(TEAMS, dim)
        self.trunk = nn.Sequential(nn.Linear(2 * dim + 1, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.heads = nn.ModuleDict(
            {
                "possession": nn.Linear(hidden, 1),
                "metres": nn.Linear(hidden, 1),
                "tempo": nn.Linear(hidden, 1),
                "goals": nn.Linear(hidden, 2),
                "result": nn.Linear(hidden, 3),
            }
        )
        self.log_var = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in self.heads})

    def forward(self, home, away, heat):
        z = torch.cat([self.team(home), self.team(away), heat[:, None] / 10 - 1.2], 1)
        z = self.trunk(z)
        return {name: head(z).squeeze(-1) for name, head in self.heads.items()}


def task_losses(out, i):
    return {
        "possession": (out["possession"] - possession[i]).pow(2).mean(),
        "metres": ((out["metres"] - (metres[i] - 108_000) / 3_000)).pow(2).mean(),
        "tempo": (out["tempo"] - tempo[i]).pow(2).mean(),
        "goals": nn.functional.poisson_nll_loss(out["goals"], goals[i]),
        "result": nn.functional.cross_entropy(out["result"], result[i]),
    }


net = FixtureNet()
gaussian = {"possession", "metres", "tempo"}
optimizer = torch.optim.Adam(
    [
        {"params": [p for n, p in net.named_parameters() if not n.startswith("log_var")], "lr": 4e-3},
        {"params": net.log_var.parameters(), "lr": 2e-2},
    ]
)

# ---- training -------------------------------------------------------------
for epoch in range(14):
    epoch_loss, batches = 0.0, 0
    for i in torch.randperm(FIXTURES).split(128):
        losses = task_losses(net(home[i], away[i], heat[i]), i)
        loss = 0.0
        for name, value in losses.items():
            precision = torch.exp(-net.log_var[name])
            if name in gaussian:
                loss = loss + 0.5 * (precision * value + net.log_var[name] + math.log(2 * math.pi))
            else:
                loss = loss + precision * value + 0.5 * net.log_var[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        epoch_loss, batches = epoch_loss + loss.item(), batches + 1
    sigma = {name: round(math.exp(0.5 * s.item()), 3) for name, s in net.log_var.items()}
    print(f"epoch {epoch:2d} loss {epoch_loss / batches:.3f} sigma {sigma}")

print(f"final_loss={epoch_loss / batches}")
