"""Temporal graph of payments: every account has a memory that payments write to; predict where the next one goes.

Accounts are spread over 5 branches. The memory table holds, per account, how much went to and came from each
branch so far. It is by far the largest tensor, so it lives in half precision.
"""
import torch
import torch.nn as nn

torch.manual_seed(77)


class AccountMemory(nn.Module):
    def __init__(self, accounts, slots):
        super().__init__()
        self.register_buffer("table", torch.zeros(accounts, slots, dtype=torch.half))

    def forward(self, ids):
        return self.table[ids].float()

    @torch.no_grad()
    def write(self, ids, message):
        self.table.index_add_(0, ids, message.to(self.table.dtype))


class Ledger:
    """Stream of payments; a few shops receive most of them and everyone has a favourite branch."""

    def __init__(self, accounts=400, branches=5):
        self.accounts, self.branches = accounts, branches
        self.branch = torch.randint(0, branches, (accounts,))
        self.favourite = torch.softmax(2.5 * torch.randn(accounts, branches), dim=1)
        self.weight = (torch.arange(accounts).float() + 1) ** -1.1

    def events(self, n):
        src = torch.multinomial(self.weight, n, replacement=True)
        to_branch = torch.multinomial(self.favourite[src], 1).squeeze(1)
        dst = torch.multinomial(self.weight, n, replacement=True)
        for b in range(self.branches):
            members = (self.branch == b).nonzero().squeeze(1)
            here = to_branch == b
            pick = torch.multinomial(self.weight[members], n, replacement=True)
            dst = torch.where(here, members[pick], dst)
        amount = torch.exp(0.8 * torch.randn(n) + 2.2)
        return src, dst, amount, to_branch


class NextBranch(nn.Module):
    def __init__(self, memory, branches, hidden=64):
        super().__init__()
        self.memory = memory
        self.net = nn.Sequential(nn.Linear(2 * branches, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                                 nn.Linear(hidden, branches))

    def forward(self, src):
        return self.net(torch.log1p(self.memory(src)))


class Trainer:
    def __init__(self):
        self.ledger = Ledger()
        k = self.ledger.branches
        self.model = NextBranch(AccountMemory(self.ledger.accounts, 2 * k), k)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 900)
        self.history = []

    def step(self):
        src, dst, amount, to_branch = self.ledger.events(200)
        loss = nn.functional.cross_entropy(self.model(src), to_branch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        k = self.ledger.branches
        sent = nn.functional.one_hot(to_branch, 2 * k) * amount[:, None]
        received = nn.functional.one_hot(self.ledger.branch[src] + k, 2 * k) * amount[:, None]
        self.model.memory.write(src, sent)
        self.model.memory.write(dst, received)
        self.history.append(loss.item())

    def fit(self, steps):
        for i in range(steps):
            self.step()
            if (i + 1) % 100 == 0:
                print(f"block {i + 1:4d}  loss {sum(self.history[-100:]) / 100:.4f}")
        return sum(self.history[-50:]) / 50


print(f"final_loss={Trainer().fit(900)}")
