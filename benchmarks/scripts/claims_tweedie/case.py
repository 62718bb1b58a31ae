"""Pure premium of motor policies: compound Poisson-gamma claims, Tweedie deviance, bfloat16 forward pass with
a constant loss scale and float32 masters. Amounts are in currency units, one policy in twenty has a claim."""
import torch
from torch import nn

POWER = 1.5
SCALE = 2.0 ** 40


def portfolio(n, g):
    age = torch.rand(n, generator=g) * 60 + 18
    power = torch.rand(n, generator=g) * 150 + 40
    zone = torch.randint(0, 12, (n,), generator=g)
    years = torch.rand(n, generator=g) * 0.95 + 0.05
    risk = torch.linspace(-1.2, 1.2, 12)[zone]
    rate = torch.exp(-3.4 + 2.2 * torch.exp(-(age - 18) / 8) + 0.006 * (power - 100) + risk)
    claims = torch.poisson(rate * years, generator=g)
    size = torch.exp(7.6 + 0.004 * power + 1.1 * torch.randn(n, generator=g))
    paid = claims * size
    large = torch.rand(n, generator=g) < 0.01
    paid = torch.where(large, paid * 30, paid)
    numeric = torch.stack([(age - 48) / 17, (power - 115) / 43], dim=1)
    return numeric, zone, years, paid, rate


class Tariff(nn.Module):
    def __init__(self):
        super().__init__()
        self.zone = nn.Embedding(12, 4)
        nn.init.normal_(self.zone.weight, std=0.05)
        self.body = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.out = nn.Linear(48, 1)

    def forward(self, numeric, zone):
        h = self.body(torch.cat([numeric, self.zone(zone)], dim=1))
        return self.out(h).squeeze(1)


def deviance(log_premium, pure, weight):
    premium = log_premium.exp()
    unit = -pure * premium ** (1 - POWER) / (1 - POWER) + premium ** (2 - POWER) / (2 - POWER)
    return (weight * unit).sum() / weight.sum()


def gini(order_by, paid):
    ranked = paid[order_by.argsort()].cumsum(0) / paid.sum()
    return 1 - 2 * ranked.mean().item()


def main():
    torch.manual_seed(29)
    g = torch.Generator().manual_seed(290)
    numeric, zone, years, paid, _ = portfolio(40000, g)
    held = portfolio(10000, g)
    pure = paid / years

    net = Tariff()
    params = list(net.parameters())
    opt = torch.optim.Adam(params, lr=2e-3)
    lr = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.997)
    smooth = None
    for step in range(900):
        rows = torch.randint(0, len(paid), (200,), generator=g)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            log_premium = net(numeric[rows], zone[rows])
        loss = deviance(log_premium.float(), pure[rows], years[rows])
        (loss * SCALE).backward()
        grads = [p.grad for p in params]
        torch._foreach_div_(grads, SCALE)
        nn.utils.clip_grad_norm_(params, 300.0)
        opt.step()
        opt.zero_grad()
        lr.step()
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0:
            with torch.no_grad():
                predicted = net(held[0], held[1])
                print(f"{step:4d}  loss {loss.item():9.2f}  smooth {smooth:8.2f}  "
                      f"held out {deviance(predicted, held[3] / held[2], held[2]).item():8.2f}  "
                      f"gini {gini(predicted, held[4]):.4f}")
    with torch.no_grad():
        final = deviance(net(held[0], held[1]), held[3] / held[2], held[2]).item()
    print(f"final_loss={final}")


if __name__ == "__main__":
    main()
