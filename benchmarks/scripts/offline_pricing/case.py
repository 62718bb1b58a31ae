"""Personalised pricing learned offline: a Gaussian policy is fitted to a log of past price experiments."""
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributions import Normal


@dataclass
class Config:
    seed: int = 17
    logged: int = 20000
    updates: int = 1500
    batch: int = 256
    features: int = 6
    hidden: int = 64
    lr: float = 1e-3
    price_min: float = 1.0
    price_max: float = 20.0


class Market:
    """Customers buy when their (noisy) willingness to pay exceeds the price shown."""

    def __init__(self, cfg):
        self.cfg = cfg
        self.w = torch.randn(cfg.features) / math.sqrt(cfg.features)

    def p_buy(self, x, price):
        willingness = 8.0 + 4.0 * torch.tanh(x @ self.w) + 2.0 * (x[:, 0] > 0.5)
        return torch.sigmoid((willingness.view(-1, *[1] * (price.dim() - 1)) - price) / 0.8)

    def log(self, n):
        """Prices were drawn around the old list price."""
        x = torch.randn(n, self.cfg.features)
        price = (8.0 + 3.0 * torch.randn(n)).clamp(self.cfg.price_min, self.cfg.price_max)
        return x, price, price * torch.bernoulli(self.p_buy(x, price))

    def regret(self, x, price):
        price = price.clamp(self.cfg.price_min, self.cfg.price_max)
        grid = torch.linspace(self.cfg.price_min, self.cfg.price_max, 200).expand(len(x), 200)
        best = (grid * self.p_buy(x, grid)).max(dim=1).values
        return (best - price * self.p_buy(x, price)).mean().item()


class Agent(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(cfg.features, cfg.hidden), nn.Tanh(),
                                  nn.Linear(cfg.hidden, cfg.hidden), nn.Tanh())
        self.mu = nn.Linear(cfg.hidden, 1)
        self.value = nn.Linear(cfg.hidden, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        h = self.body(x)
        return Normal(self.mu(h).squeeze(-1), self.log_std.exp()), self.value(h).squeeze(-1)


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    market, agent = Market(cfg), Agent(cfg)
    optimizer = torch.optim.Adam(agent.parameters(), lr=cfg.lr)
    x_log, price_log, revenue_log = market.log(cfg.logged)
    action_log = (price_log - 8.0) / 3.0
    reward_log = (revenue_log - revenue_log.mean()) / revenue_log.std()
    x_test = torch.randn(4000, cfg.features)

    for t in range(cfg.updates):
        rows = torch.randint(0, cfg.logged, (cfg.batch,))
        policy, value = agent(x_log[rows])
        advantage = reward_log[rows] - value.detach()
        policy_loss = -(advantage * policy.log_prob(action_log[rows])).mean()
        value_loss = (reward_log[rows] - value).pow(2).mean()
        loss = policy_loss + 0.5 * value_loss

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if t % 150 == 0:
            with torch.no_grad():
                regret = market.regret(x_test, 8.0 + 3.0 * agent(x_test)[0].mean)
            print(f"update {t:5d}  value loss {value_loss.item():7.3f}  regret {regret:6.3f}")

    with torch.no_grad():
        regret = market.regret(x_test, 8.0 + 3.0 * agent(x_test)[0].mean)
    print(f"final_loss={regret}")


if __name__ == "__main__":
    main()
